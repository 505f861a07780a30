"""
Tests for L{punchd.peer.instruments}: servers that are slow, that say too little, or nonsense. What
they do with real ports is tested in C{tests/functional} and in the NAT lab.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest
from attrs import define, evolve, field
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock

from punchd.errors import Refused, Unreachable
from punchd.peer.conversation import ANSWER_PATIENCE
from punchd.peer.instruments import GRACE, PATIENCE, Instruments
from punchd.values.addresses import makeAddress
from punchd.values.probes import Answer
from tests.unit.nat.pretending import OUTSIDE, around


@define(eq=False)
class World:
    """
    Instruments, and a server that answers when told.

    @ivar observed: the host that the server sees.
    """

    observed: str = OUTSIDE
    clock: Any = field(factory=MemoryReactorClock)
    asked: list[Deferred[Any]] = field(factory=list)
    instruments: Instruments = field(init=False)

    def __attrs_post_init__(self) -> None:
        surroundings = evolve(around(), observed=makeAddress(self.observed, 40000))
        self.instruments = Instruments(self.clock, bytes, self._ask, surroundings)

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


def reachOwn(world: World, host: str, other: str) -> list[Any]:
    """
    Two ports dial each other where assist services say to have seen them.
    """
    world.prepare(0)
    for place, where in enumerate((host, other)):
        world.instruments._find(place).port.observed = makeAddress(where, 7000 + place)
    return world.begin(world.instruments.reachOwn(0, 1))


@pytest.mark.parametrize(
    ("observed", "host"),
    [
        (OUTSIDE, "127.0.0.1"),
        (OUTSIDE, "192.168.1.1"),
        (OUTSIDE, "203.0.113.80"),
        ("169.254.0.1", "169.254.0.1"),
    ],
)
def test_whatAnAssistServiceMakesUpIsNotDialled(observed: str, host: str) -> None:
    world = World(observed)
    [problem] = reachOwn(world, observed, host)
    assert isinstance(problem, Refused)
    assert world.clock.tcpClients == []
    world.end()


def test_whereTheServerSeesUsWeDial(world: World) -> None:
    results = reachOwn(world, OUTSIDE, OUTSIDE)
    assert [client[:2] for client in world.clock.tcpClients] == [(OUTSIDE, 7001), (OUTSIDE, 7000)]
    world.clock.advance(PATIENCE)
    assert results == [False]
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
