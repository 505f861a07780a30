"""
Tests for L{punchd.peer.links}.
"""

from types import SimpleNamespace
from typing import Any

from punchd.peer.links import Links
from punchd.values.outcomes import Outcome, Result
from tests.unit.link.pairs import BOB, Streaming

OUTCOME = Outcome("lan", Result.CONNECTED, 0.1)


class Linked:
    """
    A link to Bob, with one open stream.
    """

    def __init__(self) -> None:
        self.links = Links()
        self.link = self.links.to("bob", BOB.peerID)
        self.streaming = Streaming()
        punch: Any = SimpleNamespace(wonBy="lan", outcomes=[OUTCOME])
        self.link.opened(self.streaming.caller.stream, punch)
        self.streaming.flush()


def test_aLinkThatWasNeverNeededHasNoPath() -> None:
    facts = Links().to("bob", BOB.peerID).toJSON()
    assert (facts["path"], facts["strategy"], facts["streams"]) == (None, None, 0)


def test_thereIsOneLinkToEachPeerUnderItsLatestName() -> None:
    links = Links()
    first = links.to("bob", BOB.peerID)
    assert links.to("robert", BOB.peerID) is first
    assert [link.peer for link in links] == ["robert"]


def test_anOpenStreamIsADirectPath() -> None:
    linked = Linked()
    facts = linked.link.toJSON()
    assert (facts["path"], facts["strategy"], facts["streams"]) == ("direct", "lan", 1)
    assert [attempt["strategy"] for attempt in facts["attempts"]] == ["lan"]
    linked.streaming.end()


def test_bytesAreCountedWhileAStreamIsOpen() -> None:
    linked = Linked()
    linked.streaming.caller.stream.write(b"12345")
    linked.streaming.callee.stream.write(b"123")
    linked.streaming.flush()
    facts = linked.link.toJSON()
    assert (facts["bytesIn"], facts["bytesOut"]) == (3, 5)
    linked.streaming.end()


def test_bytesOfStreamsThatEndedStayCounted() -> None:
    linked = Linked()
    linked.streaming.caller.stream.write(b"12345")
    linked.streaming.flush()
    linked.streaming.end()
    facts = linked.link.toJSON()
    assert (facts["streams"], facts["bytesOut"]) == (0, 5)


def test_theRoundTripStaysKnown() -> None:
    linked = Linked()
    linked.streaming.end()
    assert linked.link.toJSON()["rtt"] is not None


def test_aFailureIsTheReason() -> None:
    link = Links().to("bob", BOB.peerID)
    link.failed("no direct path to bob", (OUTCOME,))
    facts = link.toJSON()
    assert (facts["path"], facts["reason"]) == (None, "no direct path to bob")


def test_aFailureBesideAnOpenStreamLeavesThePath() -> None:
    linked = Linked()
    linked.link.failed("no direct path to bob")
    assert linked.link.toJSON()["path"] == "direct"
    linked.streaming.end()


def test_breakingAllLinksBreaksTheirStreams() -> None:
    linked = Linked()
    linked.links.abort()
    linked.streaming.flush()
    linked.streaming.wire.advance(10)
    assert linked.streaming.caller.stream.isOver
