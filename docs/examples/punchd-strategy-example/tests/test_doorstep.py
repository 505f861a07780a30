"""
Who meets by doorstep, in an internet in memory.
"""

import pytest

from punchd.strategies.simultaneous import Simultaneous
from punchd.testing.internet import Internet
from punchd_strategy_example import Doorstep

NATS = ["full-cone", "port-restricted", "shifted", "carrier", "counting", "random"]


def between(one, other, *strategies):
    internet = Internet(seed=1)
    alice, bob = internet.addHost("alice", one), internet.addHost("bob", other)
    return internet.introduce(alice, bob, strategies)


@pytest.mark.parametrize("nat", NATS)
def test_whoeverHasNoNatIsReached(nat):
    for pair in ((nat, "public"), ("public", nat)):
        found = between(*pair, Doorstep())
        assert (found.path, found.strategy) == ("direct", "doorstep")
        # One round trip to the server, and the walk to the door.
        assert found.roundTrips < 2.6


def test_behindTwoNatsNobodyWaits():
    found = between("port-restricted", "shifted", Doorstep(), Simultaneous())
    assert [one.strategy for one in found.plan.attempts] == ["simultaneous"]


def test_aFirewallKeepsTheDoorShut():
    found = between("port-restricted", "firewall", Doorstep())
    assert found.path is None
    assert "doorstep: no answer" in found.reason


def test_theTimelineSaysWhatItDoes():
    found = between("port-restricted", "public", Doorstep())
    steps = [(who, step) for _, who, step in found.timeline]
    assert ("alice", "doorstep: walks up to the other's door") in steps
    assert ("bob", "doorstep: waits at the door") in steps
