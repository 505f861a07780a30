"""
Tests for L{punchd.peer.instruments}: servers that are slow, that say too little, or nonsense. What
they do with real ports is tested in C{tests/functional} and in the NAT lab.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from punchd.errors import Refused, Unreachable
from punchd.peer.conversation import ANSWER_PATIENCE
from punchd.peer.instruments import GRACE, Instruments
from punchd.values.probes import Answer
from tests.unit.nat.pretending import ASSISTS


@define(eq=False)
class World:
    """
    Instruments, and a server that answers when told.
    """

    clock: Clock = field(factory=Clock)
    asked: list[Deferred[Any]] = field(factory=list)
    instruments: Instruments = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.instruments = Instruments(self.clock, bytes, self._ask, ASSISTS)

    def _ask(self, command: Any, **arguments: Any) -> Deferred[dict[str, Any]]:
        self.asked.append(Deferred())
        return self.asked[-1]

    def begin(self, work: Coroutine[Any, Any, Any] | Deferred[Any]) -> list[Any]:
        results: list[Any] = []
        begun = work if isinstance(work, Deferred) else Deferred.fromCoroutine(work)
        begun.addErrback(lambda failure: failure.value).addCallback(results.append)
        return results

    def prepare(self, tokens: int) -> None:
        prepared = self.begin(self.instruments.prepare(2, 2))
        self.asked[-1].callback({"tokens": [b"t" * 16] * tokens})
        assert len(prepared[0]) == 2

    def dialBack(self) -> list[Any]:
        self.prepare(0)
        self.instruments._find(0).port.token = b"t" * 16
        return self.begin(self.instruments.beDialled(0, 1, listening=False))

    def end(self) -> None:
        """
        Close, and expect that nothing is left to be done.
        """
        assert self.begin(self.instruments.close()) == [None]
        assert self.clock.getDelayedCalls() == []


@pytest.fixture
def world() -> World:
    return World()


def test_aServerThatGivesNoTokensIsGivenUp(world: World) -> None:
    results = world.begin(world.instruments.prepare(2, 2))
    world.clock.advance(ANSWER_PATIENCE)
    assert isinstance(results[0], Unreachable)
    world.end()


def test_aServerThatDoesNotDialIsGivenUp(world: World) -> None:
    results = world.dialBack()
    world.clock.advance(ANSWER_PATIENCE)
    assert isinstance(results[0], Unreachable)
    # An answer after that is of no interest.
    world.asked[-1].callback({"answer": Answer.CONNECTED})
    assert len(results) == 1
    world.end()


def test_aServerThatRefusesIsBelieved(world: World) -> None:
    results = world.dialBack()
    world.asked[-1].errback(Refused("too often"))
    assert isinstance(results[0], Refused)
    world.end()


def test_aWordThatNobodyKnowsIsNoAnswer(world: World) -> None:
    results = world.dialBack()
    world.asked[-1].callback({"answer": None})
    assert results == [(Answer.UNREACHABLE, False)]
    world.end()


def test_aConnectionThatIsSaidToBeThereMayBeLate(world: World) -> None:
    results = world.dialBack()
    world.asked[-1].callback({"answer": Answer.CONNECTED})
    assert results == []
    world.clock.advance(GRACE)
    assert results == [(Answer.CONNECTED, False)]
    world.end()


def test_tooFewTokensAreTold(world: World) -> None:
    world.prepare(0)
    [problem] = world.begin(world.instruments.show(0, 0))
    assert isinstance(problem, Unreachable)
    world.end()


def test_whatNobodyHasSeenIsNotDialled(world: World) -> None:
    world.prepare(0)
    for work in (
        world.instruments.beDialled(0, 0, listening=False),
        world.instruments.reachOwn(0, 1),
    ):
        [problem] = world.begin(work)
        assert isinstance(problem, Unreachable)
    assert len(world.asked) == 1
    world.end()


def test_afterTheEndNothingIsDone(world: World) -> None:
    world.prepare(2)
    world.end()
    for work in (
        world.instruments.show(0, 0),
        world.instruments.beDialled(0, 0, listening=True),
        world.instruments.reachOwn(0, 1),
        world.instruments.passOn(1),
    ):
        [problem] = world.begin(work)
        assert isinstance(problem, Unreachable)
    assert len(world.asked) == 1
