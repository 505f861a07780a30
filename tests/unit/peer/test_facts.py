"""
Tests for L{punchd.peer.facts}: what people are told of a path.
"""

import pytest

from punchd.errors import Unreachable
from punchd.peer.facts import Facts
from punchd.values.peers import PeerID


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
