"""
Tests for L{punchd.peer.links}: what people are told of a path.
"""

from punchd.errors import Unreachable
from punchd.peer.links import Link
from punchd.values.peers import PeerID


def test_afterAFailureNothingIsToldOfEarlierSuccess() -> None:
    link = Link("bob", PeerID(bytes(32)), strategy="simultaneous")
    link.seconds = {"connected": 0.1, "elected": 0.2}
    link.failed(Unreachable("nobody answered"))
    facts = link.toJSON()
    assert (facts["path"], facts["strategy"], facts["seconds"]) == (None, None, {})
    assert facts["reason"] == "nobody answered"
