"""
Tests for L{punchd.peer.facts}: what people are told of a path.
"""

from typing import Any, cast

import pytest
from twisted.internet.task import Clock

from punchd.errors import Limited, NoPath, Unreachable
from punchd.link.path import Path
from punchd.peer.facts import Facts
from punchd.peer.meeting import Meeting
from punchd.values.peers import PeerID
from punchd.wire.preamble import Side
from tests.unit.link.wires import Link
from tests.unit.peer.punches import PunchOf, dialling


def meetingOf(side: Side) -> Meeting:
    clock = Clock()
    punch = PunchOf(side, clock, [dialling("dial")]).punch
    nobody = cast(Any, None)
    return Meeting(clock, punch, lambda path, meeting: None, nobody, None, clock.seconds())


@pytest.fixture
def facts() -> Facts:
    return Facts("bob", PeerID(bytes(32)))


def test_afterAFailureNothingIsToldOfEarlierSuccess(facts: Facts) -> None:
    facts.strategy, facts.seconds = "simultaneous", {"connected": 0.1, "elected": 0.2}
    facts.noPath()
    facts.failed(Unreachable("nobody answered"))
    told = facts.toJSON(None)
    assert (told["path"], told["strategy"], told["seconds"]) == (None, None, {})
    assert told["reason"] == "nobody answered"


def test_aFailureDoesNotSpeakOfAnothersDirectPath(facts: Facts) -> None:
    facts.strategy = "simultaneous"
    facts.failed(Unreachable("nobody answered"))
    assert facts.toJSON(None)["reason"] is None


def test_afterFallingBackTheReasonIsTold(facts: Facts) -> None:
    facts.strategy, facts.seconds = "simultaneous", {"elected": 0.2}
    facts.fellBack()
    told = facts.toJSON(None)
    assert (told["strategy"], told["seconds"]) == (None, {})
    assert told["reason"] == "the direct path was lost"


@pytest.mark.parametrize("side", list(Side))
def test_aDirectPathIsToldWithItsStrategyAndTimes(facts: Facts, side: Side) -> None:
    meeting = meetingOf(side)
    meeting.punch.wonBy = "dial"
    meeting.punch.connectedAt = 0.25 if side is Side.CALLER else None
    facts.reason = "the direct path is not there yet"
    facts.took(meeting, True, 0.5)
    told = facts.toJSON(None)
    assert (told["strategy"], told["reason"]) == ("dial", None)
    assert told["seconds"]["elected"] == 0.5
    assert told["seconds"].get("connected") == (0.25 if side is Side.CALLER else None)
    assert [one["strategy"] for one in told["plan"]] == ["dial"]


def test_aRelayedPathIsToldWithTheReason(facts: Facts) -> None:
    meeting = meetingOf(Side.CALLER)
    facts.took(meeting, False, 0.5)
    assert facts.toJSON(None)["reason"] == "the direct path is not there yet"
    meeting.problem = NoPath("bob", (), "no strategy applies")
    facts.learn(meeting)
    assert facts.toJSON(None)["reason"] == "no direct path to bob: no strategy applies"


def test_aMeetingThatFoundADirectPathTeachesNothing(facts: Facts) -> None:
    meeting = meetingOf(Side.CALLER)
    meeting.direct = cast(Path, object())
    meeting.problem = NoPath("bob", ())
    facts.learn(meeting)
    assert facts.toJSON(None)["reason"] is None


def test_bytesOfLinksThatAreOverAreCounted(facts: Facts) -> None:
    link = Link()
    mine, theirs, _, _ = link.open()
    mine.write(b"seven b")
    theirs.write(b"three")
    link.flush()
    present = facts.toJSON(link.alice)
    facts.ended(link.alice, "nobody wants it")
    past = facts.toJSON(None)
    for told in (present, past):
        assert (told["bytesIn"], told["bytesOut"]) == (5, 7)
    again = facts.toJSON(link.alice)
    assert (again["bytesIn"], again["bytesOut"]) == (10, 14)
    assert (present["streams"], past["streams"]) == (1, 0)
    assert (present["path"], past["path"]) == ("direct", None)
    assert past["rtt"] == present["rtt"] is not None
    link.end()


def test_whatTheRelaySaysOfThePresentPathIsToldToo(facts: Facts) -> None:
    facts.session, facts.reason = b"s" * 16, "no direct path to bob: refused"
    facts.relayNoted(b"o" * 16, "the relayed path of another introduction ends")
    facts.relayNoted(b"s" * 16, "the relayed path is slowed down: 1000 bytes a second")
    assert facts.toJSON(None)["reason"] == (
        "no direct path to bob: refused; the relayed path is slowed down: 1000 bytes a second"
    )


def test_theRelayHasNothingToSayOfADirectPath(facts: Facts) -> None:
    facts.session, facts.strategy = b"s" * 16, "lan"
    facts.relayNoted(b"s" * 16, "the relayed path ends")
    assert facts.toJSON(None)["reason"] is None


def test_theLimitOfTheRelayIsNotToldTwice(facts: Facts) -> None:
    facts.session = b"s" * 16
    facts.relayNoted(b"s" * 16, "the relayed path ends: bob may have 10 bytes")
    facts.failed(NoPath("bob", ()).withoutRelay(Limited("bob may have 10 bytes", 9.0)))
    assert facts.toJSON(None)["reason"] == (
        "no direct path to bob: nothing could be tried; no relayed path either: bob may have 10 "
        "bytes"
    )
