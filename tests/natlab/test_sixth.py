"""
IPv6 in the lab: nothing is translated, routers let in what was asked for, and distance counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import attrs
import pytest

from punchd.testing.natlab import KINDS, NatLab
from punchd.values.addresses import isGlobalIPv6, makeAddress
from punchd.values.nat import Unsolicited
from tests.natlab.agents import Agent

pytestmark = [pytest.mark.natlab, pytest.mark.timed]

DELAY: Final = 0.02
SILENCE: Final = 0.3
"""Longer than anything takes that is answered."""

PORT: Final = 7000
ROUTED: Final = [name for name, kind in KINDS.items() if name != "public" and not kind.layers]


@attrs.frozen
class World:
    """
    Two public servers, an agent behind a router of every kind, and one without IPv6.
    """

    lab: NatLab
    servers: tuple[Agent, Agent]
    inside: dict[str, Agent]
    old: Agent


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with NatLab(delay=DELAY) as lab:
        old = Agent(lab.addHost("old", "port-restricted"))
        servers = tuple(Agent(lab.addPublic(name, ipv6=True)) for name in ("first", "second"))
        for each in servers:
            each.serve(PORT, ipv6=True)
        inside = {name: Agent(lab.addHost(name, name, ipv6=True)) for name in ROUTED}
        yield World(lab, (servers[0], servers[1]), inside, old)


@pytest.fixture(params=ROUTED)
def inside(world: World, request: pytest.FixtureRequest) -> Iterator[Agent]:
    """
    An agent behind a router of each kind in turn.
    """
    agent = world.inside[request.param]
    yield agent
    agent.release()


def at(agent: Agent, port: int) -> tuple[str, int]:
    """
    A port at an agent's IPv6 address.
    """
    assert agent.host.ipv6 is not None
    return agent.host.ipv6, port


def test_programsTakeTheAddressesForGlobal(inside: Agent) -> None:
    assert isGlobalIPv6(makeAddress(*at(inside, 1)))


def test_nothingIsTranslated(world: World, inside: Agent) -> None:
    """
    Every server sees the host's own address and port.
    """
    seen = inside.observe(40001, [at(each, PORT) for each in world.servers])
    assert seen == [at(inside, 40001)] * 2


def test_strangersAreNotLetIn(world: World, inside: Agent) -> None:
    """
    Not even to a port that talks to another server; each kind treats them as it does in IPv4.
    """
    inside.observe(40002, [at(world.servers[0], PORT)])
    inside.serve(40002, ipv6=True)
    outcome = world.servers[1].dial(0, at(inside, 40002), SILENCE)
    silent = inside.host.kind.unsolicited is Unsolicited.DROP
    assert outcome == ("timeout" if silent else "ECONNREFUSED")


def test_whoIsDialledMayDialBack(world: World, inside: Agent) -> None:
    """
    A simultaneous open passes the firewall.
    """
    port = 7200 + ROUTED.index(inside.host.kind.name)
    mine = inside.start(40003, at(world.servers[0], port))
    theirs = world.servers[0].start(port, at(inside, 40003))
    outcomes = inside.finish(mine, SILENCE), world.servers[0].finish(theirs, SILENCE)
    assert outcomes == ("connected", "connected")


def test_distanceCounts(world: World, inside: Agent) -> None:
    """
    A round trip takes twice the lab's delay.
    """
    took = inside.timed(at(world.servers[0], PORT))
    assert 2 * DELAY <= took < 2 * DELAY + 0.02


def test_aCutLinkCarriesNothing(world: World) -> None:
    agent = world.inside["random"]
    world.lab.cutLink(agent.host)
    assert agent.dial(0, at(world.servers[0], PORT), SILENCE) == "timeout"
    world.lab.restoreLink(agent.host)
    assert agent.dial(0, at(world.servers[0], PORT), 3.0) == "connected"


def test_neighboursReachEachOtherDirectly(world: World) -> None:
    other = Agent(world.lab.addNeighbour("neighbour", world.inside["random"].host))
    other.serve(PORT, ipv6=True)
    assert world.inside["random"].timed(at(other, PORT)) < DELAY / 2


def test_whoDoesNotAskHasNone(world: World) -> None:
    assert world.old.host.ipv6 is None
    shown = world.old.host.run(["ip", "-6", "-o", "addr", "show", "dev", "eth0"]).stdout
    assert shown == ""


def test_carriersHaveNone(world: World) -> None:
    with pytest.raises(ValueError, match="no IPv6"):
        world.lab.addHost("carrier", "carrier", ipv6=True)
