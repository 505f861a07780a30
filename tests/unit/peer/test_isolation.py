"""
Strategies with bugs, raced beside a good one: they are reported by name, and it wins all the same.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from twisted.internet.defer import AlreadyCalledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, capturedLogs

from punchd.interfaces import IAttempt
from punchd.peer.punching import Punch
from punchd.plugin import loadStrategies
from punchd.strategies.planning import MOST_SECONDS, makePlan
from punchd.strategies.simultaneous import Simultaneous
from punchd.testing.internet import Internet, Introduced
from punchd.values.outcomes import Outcome, Result
from punchd.values.parties import Situation
from punchd.values.plans import Consideration
from punchd.wire.preamble import Side
from tests.unit.peer.punches import SITUATION, PunchOf, Scripted
from tests.unit.testing import bad

#: Each with what its outcome, or the log, says of it.
RUN_AND_REPORTED = [
    (bad.RaisesInAttempt, "ZeroDivisionError: attempted"),
    (bad.FailsInAttempt, "ZeroDivisionError: attempted"),
    (bad.GivesNothing, "None for an outcome"),
    (bad.GivesAWord, "'connected' for an outcome"),
    (bad.Undead, "goes on although it was cancelled"),
    (bad.RaisesWhenCancelled, "ZeroDivisionError when it was cancelled"),
]
NOT_EVEN_PLANNED = [bad.RaisesInConsider, bad.Unsure, bad.Backwards]


def race(make: Callable[[], Any]) -> Introduced:
    """
    A bad strategy first, and a good one after it.
    """
    internet = Internet(seed=1)
    alice, bob = internet.addHost("alice", "port-restricted"), internet.addHost("bob", "shifted")
    return internet.introduce(alice, bob, [make(), Simultaneous()])


def logged(events: Sequence[LogEvent], name: str) -> list[LogEvent]:
    return [event for event in events if event.get("name") == name]


@pytest.mark.parametrize(("make", "said"), RUN_AND_REPORTED)
def test_aBadStrategyIsReportedAndAnotherWins(
    make: Callable[[], Any], said: str, flushLoggedErrors: Any
) -> None:
    found = race(make)
    assert found.strategy == "simultaneous"
    for side in (found.caller, found.callee):
        [outcome] = [one for one in side.outcomes if one.strategy == "good"]
        assert outcome.result is Result.FAILED
        assert "a bug in the strategy" in outcome.detail
        assert said in outcome.detail
    flushLoggedErrors()


@pytest.mark.parametrize("make", NOT_EVEN_PLANNED)
def test_whoCannotConsiderIsLeftOutByName(make: Callable[[], Any]) -> None:
    with capturedLogs() as events:
        found = race(make)
    assert found.strategy == "simultaneous"
    assert [one.strategy for one in found.plan.attempts] == ["simultaneous"]
    assert len(logged(events, "good")) == 2


def test_whoNeverFiresRunsOutOfTime() -> None:
    found = race(bad.NeverFires)
    assert found.strategy == "simultaneous"
    [outcome] = [one for one in found.caller.outcomes if one.strategy == "good"]
    assert outcome.result is Result.CANCELLED


def test_whoFiresTwiceHurtsNobodyElse() -> None:
    internet = Internet(seed=1)
    alice, bob = internet.addPublic("alice"), internet.addPublic("bob")
    introduction = internet.begin(alice, bob, [bad.FiresTwice(), Simultaneous()])
    # A real reactor logs what its delayed calls raise, and goes on.
    for _ in range(2):
        with pytest.raises(AlreadyCalledError):
            introduction.run()
    introduction.run()
    assert introduction.end().strategy == "simultaneous"


class _LeaksAndRaises(bad.Good):
    """
    What a bad strategy leaks, without the connection that it would win.
    """

    def __init__(self, leak: bad.Good) -> None:
        self._leak = leak

    def attempt(self, attempt: IAttempt) -> Deferred[Outcome]:
        leaking = self._leak.attempt(attempt)
        leaking.addErrback(lambda failure: None)
        leaking.cancel()
        raise ZeroDivisionError("and gives up")


@pytest.mark.parametrize("make", [bad.LeaksASocket, bad.LeaksAListener, bad.LeaksACall])
def test_whoLeaksDoesNotKeepOthersFromWinning(
    make: Callable[[], bad.Good], flushLoggedErrors: Any
) -> None:
    found = race(lambda: _LeaksAndRaises(make()))
    assert found.strategy == "simultaneous"
    assert found.left != ()
    assert len(flushLoggedErrors(ZeroDivisionError)) == 2


def blocking(clock: Clock, seconds: float) -> Scripted:
    def script(attempt: IAttempt) -> Any:
        clock.rightNow += seconds
        return Deferred()

    return Scripted("slow", script)


@pytest.mark.parametrize(("seconds", "lines"), [(MOST_SECONDS * 1.1, 1), (MOST_SECONDS * 0.9, 0)])
def test_whoBlocksIsReportedByName(seconds: float, lines: int) -> None:
    clock = Clock()
    side = PunchOf(Side.CALLER, clock, [blocking(clock, seconds)])
    with capturedLogs() as events:
        side.run()
    assert len(logged(events, "slow")) == lines
    side.running.cancel()
    assert isinstance(side.punch, Punch)
    clock.advance(0)


@pytest.mark.parametrize(("seconds", "lines"), [(MOST_SECONDS * 1.1, 1), (MOST_SECONDS * 0.9, 0)])
def test_whoConsidersForTooLongIsReportedByName(seconds: float, lines: int) -> None:
    clock = Clock()

    class Slow(bad.Good):
        def consider(self, situation: Situation) -> Consideration | None:
            clock.rightNow += seconds
            return None

    offered = SITUATION.caller.offer.__class__(strategies=(("good", 1),))
    party = SITUATION.caller.__class__(SITUATION.caller.reflexive, offered)
    with capturedLogs() as events:
        makePlan(Situation(party, party), {"good": Slow()}, clock.seconds)
    assert len(logged(events, "good")) == lines


class _Maker:
    def __init__(self, name: str, make: Callable[[], Any]) -> None:
        self.name = name
        self.make = make


class _Nameless:
    pass


@pytest.mark.parametrize("make", [bad.Versionless, _Nameless, lambda: 1 // 0])
def test_whatCannotBeOfferedIsReportedAndLeftOut(make: Callable[[], Any]) -> None:
    reported: list[str] = []
    makers: list[Any] = [_Maker("bad", make), _Maker("good", bad.Good)]
    loaded = loadStrategies(makers, lambda name, error: reported.append(name))
    assert (reported, list(loaded)) == (["bad"], ["good"])
