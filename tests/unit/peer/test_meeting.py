"""
Tests for L{punchd.peer.meeting}: the punch and the way through the relay, side by side.
"""

from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from twisted.internet.defer import CancelledError, Deferred, FirstError
from twisted.python.failure import Failure

from punchd.errors import NoPath, Refused, Unreachable
from punchd.link.path import Path
from punchd.link.punched import DEADLINE, PunchedConnection
from punchd.peer.meeting import JOINING, RELAYING, Meeting
from punchd.peer.punches import Punches
from punchd.peer.punching import GRACE
from punchd.values.addresses import Ends, endsOf
from tests.unit.net.memory import Pair
from tests.unit.peer.punches import JOIN, Introduction, PunchOf


class Runs:
    """
    Runs punches, and does not remember them.
    """

    def run(self, punch: Any) -> Any:
        return punch.run()


class Side:
    """
    One side's meeting.

    @ivar relay: the connection that wants to be connected to the other by the relay.
    @ivar results: C{over}, or why it failed.
    """

    def __init__(self, of: PunchOf, hasRelay: bool) -> None:
        self.of = of
        self.found: list[str] = []
        self.paths: list[Path] = []
        self.results: list[object] = []
        self.opening: list[Deferred[None]] = []
        self.connections: list[PunchedConnection] = []
        self.take: Callable[[Path], None] = lambda path: None
        self.meeting = Meeting(
            of.clock,
            of.punch,
            self._found,
            cast(Punches, Runs()),
            self._dial if hasRelay else None,
            of.clock.seconds(),
        )

    def _dial(self, connection: PunchedConnection) -> Deferred[None]:
        self.connections.append(connection)
        self.opening.append(Deferred())
        return self.opening[0]

    def _found(self, path: Path, meeting: Meeting) -> None:
        assert meeting is self.meeting
        self.found.append("direct" if path.isDirect else "relayed")
        self.paths.append(path)
        self.take(path)

    def run(self) -> None:
        self.running = self.meeting.run()
        self.running.addCallbacks(self._over, self._failed)

    def _over(self, result: None) -> None:
        self.results.append("over")

    def _failed(self, failure: Failure) -> None:
        self.results.append(failure.value)

    @property
    def relayIsOpen(self) -> bool:
        return any(not opening.called for opening in self.opening)


class Meetings:
    """
    Both sides' meetings of one introduction.
    """

    def __init__(self, hasRelay: bool = True) -> None:
        self.introduction = Introduction()
        self.clock = self.introduction.clock
        self.caller = Side(self.introduction.caller, hasRelay)
        self.callee = Side(self.introduction.callee, hasRelay)
        # As a link does.
        self.caller.take = lambda path: path.write([JOIN.pack()])

    def run(self) -> "Meetings":
        self.caller.run()
        self.callee.run()
        return self

    def relay(self) -> Pair:
        """
        Let the two come together at the relay, and say all they have to say.
        """
        pair = self.meetAtRelay()
        pair.flush()
        return pair

    def meetAtRelay(self) -> Pair:
        """
        Let the two come together at the relay.
        """
        one, two = self.caller.connections[0], self.callee.connections[0]
        pair = Pair(self.clock, one, two, greet=False)
        self.introduction.pairs.append(pair)
        for side in (self.caller, self.callee):
            side.opening[0].callback(None)
        return pair

    def flush(self) -> None:
        self.introduction.flush()

    def failPunch(self) -> None:
        """
        Let nobody answer the punch.
        """
        self.clock.advance(4)
        self.clock.advance(GRACE)
        self.flush()

    def end(self) -> None:
        for side in (self.caller, self.callee):
            side.running.cancel()
            assert len(side.results) == 1
            assert not side.relayIsOpen
        for pair in self.introduction.pairs:
            pair.one.abortConnection()
        self.flush()
        self.clock.advance(0)
        assert self.clock.getDelayedCalls() == []


@pytest.fixture
def meetings() -> Iterator[Meetings]:
    meetings = Meetings()
    yield meetings
    meetings.end()


def test_theRelayedPathComesWhileThePunchRuns(meetings: Meetings) -> None:
    meetings.run().relay()
    assert meetings.caller.found == meetings.callee.found == ["relayed"]
    assert meetings.caller.results == []


def test_bothEndsOfEachPathAreKnown(meetings: Meetings) -> None:
    meetings.run().relay()
    meetings.introduction.cross()
    meetings.flush()
    relayed, direct = meetings.callee.paths
    situation = meetings.callee.of.punch.situation
    # Of the relayed one, where the server has seen both; of the other, what TCP says.
    assert relayed.ends == Ends(situation.caller.reflexive, situation.callee.reflexive)
    assert direct.ends == endsOf(direct.transport)
    assert direct.ends is not None


def test_theDirectPathComesAfterIt(meetings: Meetings) -> None:
    meetings.run().relay()
    meetings.introduction.cross()
    meetings.flush()
    assert meetings.caller.found == meetings.callee.found == ["relayed", "direct"]
    assert meetings.caller.results == meetings.callee.results == ["over"]


def test_aRelayedPathThatWasFoundIsLeftToWhoeverHasIt(meetings: Meetings) -> None:
    pair = meetings.run().relay()
    meetings.introduction.cross()
    meetings.flush()
    assert pair.isOpen


def test_onceThereIsADirectPathTheRelayIsNotNeeded(meetings: Meetings) -> None:
    meetings.run()
    meetings.introduction.cross()
    meetings.flush()
    for side in (meetings.caller, meetings.callee):
        assert side.found == ["direct"]
        assert side.results == ["over"]
        assert not side.relayIsOpen
        assert side.meeting.noPath is None
        assert side.meeting.relayProblem is None


def test_whatTheRelayHasConnectedTooLateIsEnded(meetings: Meetings) -> None:
    pair = meetings.run().meetAtRelay()
    meetings.introduction.cross()
    meetings.flush()
    assert not pair.isOpen
    assert meetings.caller.found == ["direct"]


def test_whatTheRelayConnectsWithoutADirectPathIsEnough(meetings: Meetings) -> None:
    meetings.run().relay()
    meetings.failPunch()
    assert meetings.caller.results == meetings.callee.results == ["over"]
    assert meetings.caller.meeting.noPath is None
    assert isinstance(meetings.caller.meeting.problem, NoPath)


def test_withoutEitherItSaysWhyThereIsNone(meetings: Meetings) -> None:
    meetings.run()
    meetings.caller.opening[0].errback(Failure(Refused("too many relayed paths")))
    meetings.failPunch()
    assert meetings.caller.results == ["over"]
    problem = meetings.caller.meeting.noPath
    assert isinstance(problem, NoPath)
    assert str(problem).endswith("no relayed path either: too many relayed paths")


def test_withoutAnyRelayItIsOverWithThePunch() -> None:
    meetings = Meetings(hasRelay=False).run()
    meetings.failPunch()
    assert meetings.caller.results == meetings.callee.results == ["over"]
    assert "relayed" not in str(meetings.caller.meeting.noPath)
    meetings.end()


def test_theRelayIsNotWaitedForLongerThanAPlan(meetings: Meetings) -> None:
    meetings.run()
    meetings.failPunch()
    assert meetings.caller.results == []
    meetings.clock.advance(RELAYING)
    assert meetings.caller.results == meetings.callee.results == ["over"]
    assert "nothing came of the relay within 8 s" in str(meetings.caller.meeting.noPath)


def test_whoDoesNotProveHimselfThroughTheRelayHasNoPath(meetings: Meetings) -> None:
    meetings.run().meetAtRelay()
    meetings.clock.advance(DEADLINE)
    meetings.flush()
    meetings.failPunch()
    assert meetings.caller.found == []
    assert isinstance(meetings.caller.meeting.relayProblem, Unreachable)


def test_aRelayedPathThatBreaksBeforeItIsProvenIsNone(meetings: Meetings) -> None:
    pair = meetings.run().meetAtRelay()
    pair.one.abortConnection()
    pair.flush()
    meetings.failPunch()
    assert meetings.callee.found == []
    assert isinstance(meetings.callee.meeting.relayProblem, Unreachable)


# The callee waits for the caller's JOIN.


def test_theCalleeHasTheRelayedPathWhenTheCallerJoins(meetings: Meetings) -> None:
    meetings.caller.take = lambda path: None
    meetings.run().relay()
    assert meetings.caller.found == ["relayed"]
    assert meetings.callee.found == []
    meetings.caller.paths[0].write([JOIN.pack()])
    meetings.flush()
    assert meetings.callee.found == ["relayed"]


def test_aCallerThatNeverJoinsIsNotWaitedForForEver(meetings: Meetings) -> None:
    meetings.caller.take = lambda path: None
    pair = meetings.run().relay()
    meetings.failPunch()
    assert meetings.callee.results == []
    meetings.clock.advance(JOINING)
    meetings.flush()
    assert meetings.callee.results == ["over"]
    assert str(meetings.callee.meeting.relayProblem) == (
        "the caller has not used the relayed connection"
    )
    assert not pair.isOpen


def test_aCallerThatLeavesTheRelayedPathIsNotWaitedFor(meetings: Meetings) -> None:
    meetings.caller.take = lambda path: path.leave()
    meetings.run().relay()
    meetings.flush()
    assert str(meetings.callee.meeting.relayProblem) == (
        "the caller has not used the relayed connection"
    )


def test_theCalleeMayNotJoin(meetings: Meetings) -> None:
    meetings.caller.take = lambda path: None
    pair = meetings.run().relay()
    meetings.callee.connections[0].path.write([JOIN.pack()])
    meetings.flush()
    assert not pair.isOpen
    assert meetings.callee.found == []


# Giving up.


def test_cancellingEndsBoth(meetings: Meetings) -> None:
    meetings.run()
    meetings.caller.running.cancel()
    assert [type(result) for result in meetings.caller.results] == [CancelledError]
    assert not meetings.caller.relayIsOpen
    assert all(dial.isCancelled for dial in meetings.caller.of.port.dials)


def test_cancellingAfterThePunchEndsTheWayThroughTheRelay(meetings: Meetings) -> None:
    meetings.run()
    meetings.failPunch()
    meetings.caller.running.cancel()
    assert [type(result) for result in meetings.caller.results] == [CancelledError]
    assert not meetings.caller.relayIsOpen


def test_cancellingWhileTheRelayedPathIsNotProvenEndsIt(meetings: Meetings) -> None:
    pair = meetings.run().meetAtRelay()
    meetings.caller.running.cancel()
    pair.flush()
    assert not pair.isOpen


def test_cancellingWhileTheCalleeWaitsEndsThePath(meetings: Meetings) -> None:
    meetings.caller.take = lambda path: None
    pair = meetings.run().relay()
    meetings.callee.running.cancel()
    pair.flush()
    assert not pair.isOpen


def test_cancellingLeavesThePathThatWasFound(meetings: Meetings) -> None:
    pair = meetings.run().relay()
    meetings.caller.running.cancel()
    pair.flush()
    assert pair.isOpen


def test_whoeverEndsThePunchEndsAll(meetings: Meetings) -> None:
    meetings.run()
    assert meetings.caller.of.punch._result is not None
    # As Punches.stop does.
    meetings.caller.of.punch._result.cancel()
    assert [type(result) for result in meetings.caller.results] == [CancelledError]
    assert not meetings.caller.relayIsOpen


def bug(path: Path) -> None:
    raise ZeroDivisionError("a bug")


def test_aBugOfWhoTakesTheRelayedPathIsTold(meetings: Meetings) -> None:
    meetings.caller.take = bug
    meetings.run().relay()
    assert [type(result) for result in meetings.caller.results] == [ZeroDivisionError]
    assert all(dial.isCancelled for dial in meetings.caller.of.port.dials)


def test_aBugOfWhoTakesTheDirectPathIsTold(meetings: Meetings) -> None:
    meetings.callee.take = bug
    meetings.run()
    meetings.introduction.cross()
    meetings.flush()
    assert [type(result) for result in meetings.callee.results] == [ZeroDivisionError]
    assert not isinstance(meetings.callee.results[0], FirstError)
