"""
Tests for L{punchd.peer.experience}: what worked comes first next time.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve, field
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, formatEvent, globalLogPublisher
from zope.interface import implementer

from punchd.identity.folder import StateFolder
from punchd.peer.experience import (
    DEMOTED,
    MOST_PAIRS,
    MOST_PEERS,
    OVERTAKEN,
    WRITE_DELAY,
    Experience,
)
from punchd.values.outcomes import Outcome, Result
from punchd.values.parties import Offer, Party, Situation
from punchd.values.peers import PeerID
from punchd.wire.preamble import Side
from tests.unit.link.pairs import makeTicket
from tests.unit.net.memory import HERE, THERE
from tests.unit.peer.punches import PunchOf, Scripted, dialling
from tests.unit.values.natting import COUNTING, PORT_RESTRICTED, RANDOM

NAMES = ("a", "b", "c")
OWN = Party(HERE, Offer(PORT_RESTRICTED))
OTHER = Party(THERE, Offer(RANDOM))
FILE = "experience.json"


def ended(name: str, result: Result, seconds: float = 0.1) -> Outcome:
    return Outcome(name, result, seconds)


@define
class Learner:
    """
    A peer's experience, and introductions for it to learn from.
    """

    path: Path
    clock: Clock = field(factory=Clock)
    experience: Experience = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        folder = StateFolder.at(str(self.path))
        self.experience = Experience.inFolder(folder, self.clock, self.clock.seconds)

    def learn(
        self,
        won: str | None,
        *outcomes: Outcome,
        side: Side = Side.CALLER,
        peerID: PeerID | None = None,
        other: Party = OTHER,
    ) -> "Learner":
        parties = (OWN, other) if side is Side.CALLER else (other, OWN)
        ticket = makeTicket(side)
        if peerID is not None:
            ticket = evolve(ticket, expected=peerID)
        strategies: Sequence[Scripted] = [dialling(name) for name in NAMES]
        of = PunchOf(side, self.clock, strategies, situation=Situation(*parties), ticket=ticket)
        of.punch.wonBy = won
        of.punch.outcomes.extend(outcomes)
        self.experience.learn(of.punch)
        self.expected = ticket.expected
        return self

    expected: Any = field(default=None, init=False)

    def order(self, own: Party = OWN) -> str:
        return "".join(self.experience.order(own, self.expected, NAMES))

    def content(self) -> Any:
        return json.loads((self.path / FILE).read_bytes())


@pytest.fixture
def learner(tmp_path: Path) -> Learner:
    return Learner(tmp_path)


@pytest.fixture
def loggedWarnings() -> Iterator[list[str]]:
    lines: list[str] = []

    @implementer(ILogObserver)
    def journal(event: Any) -> None:
        lines.append(formatEvent(event))

    globalLogPublisher.addObserver(journal)
    yield lines
    globalLogPublisher.removeObserver(journal)


FAILED = ended("a", Result.TIMED_OUT)
WON = ended("b", Result.CONNECTED)


def test_aPeerThatWasNeverMetIsOfferedTheUsualOrder(learner: Learner) -> None:
    learner.expected = PeerID(b"x" * 32)
    assert learner.order() == "abc"


@pytest.mark.parametrize("side", Side)
def test_whatWorkedComesFirst(learner: Learner, side: Side) -> None:
    learner.learn("b", FAILED, WON, side=side)
    assert learner.order() == "bac"


def test_whatWorkedForOneServesAllOfItsKind(learner: Learner) -> None:
    learner.learn("b", FAILED, WON, peerID=PeerID(b"x" * 32))
    learner.learn(None, peerID=PeerID(b"y" * 32))
    assert learner.order() == "bac"


def test_anotherKindOfNatIsAnotherMatter(learner: Learner) -> None:
    learner.learn("b", FAILED, WON)
    learner.learn(None, other=Party(THERE, Offer(COUNTING)))
    assert learner.order() == "abc"


def test_ourOwnNatCountsToo(learner: Learner) -> None:
    learner.learn("b", FAILED, WON)
    assert learner.order(Party(HERE, Offer(COUNTING))) == "abc"


def test_oneFailureIsForgiven(learner: Learner) -> None:
    learner.learn(None, FAILED)
    assert learner.order() == "abc"


def test_whatFailedTwiceComesLastForAWhile(learner: Learner) -> None:
    learner.learn(None, FAILED).learn(None, FAILED)
    assert learner.order() == "bca"
    learner.clock.advance(DEMOTED)
    assert learner.order() == "abc"


def test_successMakesUpForFailure(learner: Learner) -> None:
    learner.learn(None, FAILED).learn(None, FAILED).learn("a", ended("a", Result.CONNECTED))
    assert learner.order() == "abc"


def test_whatWorkedAndThenFailsIsNoLongerFirst(learner: Learner) -> None:
    learner.learn("b", FAILED, WON).learn(None, ended("b", Result.TIMED_OUT))
    assert learner.order() == "abc"


def test_whoeverIsOvertakenAfterALongTimeHasFailed(learner: Learner) -> None:
    for _ in range(2):
        learner.learn("c", ended("a", Result.CANCELLED, OVERTAKEN), ended("c", Result.CONNECTED))
    assert learner.order() == "cba"


def test_whoeverIsOvertakenSoonHasNot(learner: Learner) -> None:
    for _ in range(2):
        learner.learn("c", ended("a", Result.CANCELLED, OVERTAKEN / 2))
    assert learner.order() == "cab"


def test_whoeverStartedAfterTheWinnerHasNotFailed(learner: Learner) -> None:
    for _ in range(2):
        learner.learn("a", ended("b", Result.NOT_POSSIBLE))
    assert learner.order() == "abc"


def test_aConnectionThatBelongsToNoStrategyTeachesNothing(learner: Learner) -> None:
    learner.learn("accepted")
    assert learner.order() == "abc"


def test_itOutlivesThePeer(learner: Learner) -> None:
    learner.learn("b", FAILED, WON)
    learner.experience.close()
    learner.restart()
    assert learner.order() == "bac"


def test_itIsOnDiskSoonAndOnceForMany(learner: Learner) -> None:
    learner.learn("b", FAILED, WON).learn("c", ended("c", Result.CONNECTED))
    assert len(learner.clock.getDelayedCalls()) == 1
    assert not (learner.path / FILE).exists()
    learner.clock.advance(WRITE_DELAY)
    assert learner.content()["version"] == 1
    assert (learner.path / FILE).stat().st_mode & 0o777 == 0o600


def test_afterItsEndNothingIsLeftToDo(learner: Learner) -> None:
    learner.learn("b", FAILED, WON)
    learner.experience.close()
    assert learner.clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"[" * 100_000,
        b'{"version": 2}',
        b'{"version": 1, "pairs": {"x": 1}, "peers": {}}',
        b'{"version": 1, "pairs": {"x": {"worked": 1, "failures": [], "failedAt": 0}}}',
        b'{"version": 1, "pairs": {"x": {"worked": null, "failures": {"a": 1e999}, "failedAt": 0}},'
        b' "peers": {}}',
        b"\xff\xfe",
        b" " * (1 << 21),
    ],
)
def test_aBadFileIsReportedAndBegunAnew(
    learner: Learner, content: bytes, loggedWarnings: list[str]
) -> None:
    (learner.path / FILE).write_bytes(content)
    learner.restart()
    assert any("begins without experience" in line for line in loggedWarnings)
    learner.learn("b", FAILED, WON)
    learner.experience.close()
    learner.restart()
    assert learner.order() == "bac"


@given(st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_noFileStopsThePeer(learner: Learner, content: bytes) -> None:
    (learner.path / FILE).write_bytes(content)
    learner.restart()
    learner.expected = PeerID(b"x" * 32)
    assert learner.order() == "abc"


def test_aFullDiskLosesTheMemoryAndNothingElse(learner: Learner, loggedWarnings: list[str]) -> None:
    learner.learn("b", FAILED, WON)
    (learner.path / FILE).mkdir()
    learner.experience.close()
    assert any("does not remember" in line for line in loggedWarnings)
    assert learner.order() == "bac"


def test_itIsBounded(learner: Learner) -> None:
    for number in range(MOST_PEERS + 10):
        nat = evolve(COUNTING, delta=number % 7 + 1)
        other = Party(THERE, Offer(nat, strategies=((f"s{number}", 1),)))
        learner.learn("b", FAILED, WON, peerID=PeerID(number.to_bytes(32, "big")), other=other)
    learner.experience.close()
    table = learner.content()
    assert len(table["peers"]) == MOST_PEERS
    assert len(table["pairs"]) <= MOST_PAIRS
    assert str(PeerID((0).to_bytes(32, "big"))) not in table["peers"]
