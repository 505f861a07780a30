"""
Every kind of NAT does what its name says, as far as TCP can tell from outside.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import attrs
import pytest

from punchd.testing.natlab import KINDS, Allocation, NatLab
from punchd.values.nat import Filtering, Mapping
from tests.natlab.agents import Address, Agent

pytestmark = [pytest.mark.natlab, pytest.mark.waiting]

DELAY: Final = 0.01
SILENCE: Final = 0.3
"""Longer than anything takes that is answered: 15 round trips."""

SERVED: Final = (7000, 7001)
QUIET: Final = 7100
"""A port of the servers whose SYNs vanish, so that who dials it keeps waiting."""

SILENT: Final = f"""
table ip silent {{
    chain input {{
        type filter hook input priority filter;
        tcp dport {QUIET} tcp flags & (syn | ack) == syn drop
    }}
}}
"""


@attrs.frozen
class World:
    """
    Two public servers, and an agent behind every kind of NAT.
    """

    lab: NatLab
    servers: tuple[Agent, Agent]
    inside: dict[str, Agent]

    @property
    def targets(self) -> list[Address]:
        """
        Two addresses with two ports each, in the order of RFC 5780's tests.
        """
        return [(each.host.address, port) for each in self.servers for port in SERVED]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with NatLab(delay=DELAY) as lab:
        servers = Agent(lab.addPublic("first")), Agent(lab.addPublic("second"))
        for each in servers:
            for port in SERVED:
                each.serve(port)
            each.host.run(["nft", "-f", "-"], input=SILENT)
        inside = {name: Agent(lab.addHost(name, kind)) for name, kind in KINDS.items()}
        yield World(lab, servers, inside)


@pytest.fixture(params=KINDS)
def inside(world: World, request: pytest.FixtureRequest) -> Iterator[Agent]:
    """
    An agent behind each kind in turn.
    """
    agent = world.inside[request.param]
    yield agent
    agent.release()


def classified(seen: list[Address]) -> Mapping:
    """
    The mapping that explains what two servers saw on two ports each.
    """
    if len(set(seen)) == 1:
        return Mapping.ENDPOINT_INDEPENDENT
    if seen[0] == seen[1] and seen[2] == seen[3]:
        return Mapping.ADDRESS_DEPENDENT
    return Mapping.ADDRESS_AND_PORT_DEPENDENT


def test_mapping(world: World, inside: Agent) -> None:
    """
    Connections from one inside port have the outside ports of the kind.
    """
    seen = inside.observe(40001, world.targets)
    assert {address for address, _ in seen} == {inside.host.outside}
    assert classified(seen) is inside.host.kind.mapping


def test_allocation(world: World, inside: Agent) -> None:
    """
    Outside ports are chosen as the kind says.
    """
    ports = [inside.observe(40010 + n, world.targets[:1])[0][1] for n in range(5)]
    steps = {after - before for before, after in pairwise(ports)}
    match inside.host.kind.allocation:
        case Allocation.PRESERVING:
            assert ports == [40010 + n for n in range(5)]
        case Allocation.COUNTING:
            assert steps == {1}
        case Allocation.SHIFTED | Allocation.BY_ADDRESS:
            assert all(port != 40010 + n for n, port in enumerate(ports))
            assert inside.observe(40010, world.targets[1:2])[0][1] == ports[0]
        case Allocation.RANDOM:
            assert len(steps) > 2


def test_manyFlowsKeepTheirMappings(world: World, inside: Agent) -> None:
    """
    With 250 inside ports, each has a mapping of its own kind toward every
    server, and no two share an outside port: tracked flows never clash.
    """
    seen = inside.observeAll(list(range(41000, 41250)), world.targets)
    assert {classified(each) for each in seen} == {inside.host.kind.mapping}
    for each in zip(*seen, strict=True):
        assert len(set(each)) == 250


def admitted(world: World, inside: Agent) -> Filtering:
    """
    Who can open a connection to a port that talks to the first server.
    """
    first, second = world.servers
    (mapped,) = inside.observe(40020, [world.targets[0]])
    inside.serve(40020)
    otherPort = first.dial(0, mapped, SILENCE)
    otherAddress = second.dial(0, mapped, SILENCE)
    if otherAddress == "connected":
        assert otherPort == "connected"
        return Filtering.ENDPOINT_INDEPENDENT
    if otherPort == "connected":
        return Filtering.ADDRESS_DEPENDENT
    return Filtering.ADDRESS_AND_PORT_DEPENDENT


def test_filtering(world: World, inside: Agent) -> None:
    """
    Who else may come in on a mapping is as the kind says.
    """
    assert admitted(world, inside) is inside.host.kind.filtering


def test_holeForTheDialledAddressAndPort(world: World, inside: Agent) -> None:
    """
    Whoever is being dialled can dial back from the same address and port: the
    hole that hole punching is about.
    """
    first = world.servers[0]
    first.watch(QUIET)
    attempt = inside.start(40030, (first.host.address, QUIET))
    mapped = first.watched()
    assert first.dial(QUIET, mapped, SILENCE) == "connected"
    assert inside.finish(attempt, SILENCE) == "connected"


def test_unsolicited(world: World, inside: Agent) -> None:
    """
    A SYN that nobody asked for is dropped, reset or answered by ICMP.
    """
    answer = world.servers[1].refusal((inside.host.outside, 45999), SILENCE)
    assert answer == inside.host.kind.unsolicited.value
    # And again at once: answers are not rationed.
    answer = world.servers[1].refusal((inside.host.outside, 45999), SILENCE)
    assert answer == inside.host.kind.unsolicited.value


def test_everyKindIsThere() -> None:
    """
    The kinds, by name, from the most open to the most closed.
    """
    cones = "full-cone restricted port-restricted shifted reset icmp carrier"
    symmetric = "counting by-address random"
    assert list(KINDS) == f"public firewall {cones} {symmetric}".split()
    assert [name for name, kind in KINDS.items() if kind.symmetric] == symmetric.split()


def test_carrierIsTwoRouters(world: World) -> None:
    """
    The inner router of a carrier's customer has an address of RFC 6598.
    """
    router = world.inside["carrier"].host.router
    assert router is not None
    assert router.outside.startswith("100.64.")
    assert router.outermost is not router
