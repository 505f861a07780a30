"""
Each kind of NAT does in memory what its name says: probed from outside and inside, as the kernel
lab's tests probe theirs.
"""

import errno

import pytest

from punchd.testing.internet import Complaint, Segment
from punchd.testing.internet.routers import Router
from punchd.testing.natlab.kinds import KINDS, Allocation, NatKind
from punchd.values.addresses import Address, makeAddress
from punchd.values.nat import Filtering, Mapping, Unsolicited
from tests.unit.testing.internet.ends import LOOKOUT, World

NATTED = [name for name, kind in KINDS.items() if kind.natted]
BEHIND = [name for name in KINDS if name != "public"]


def views(world: World) -> list[Address]:
    """
    How Alice is seen: from one port, from another one of that host, and from another host.
    """
    second = world.server.host.stack.hosts[1]
    world.lookOut(world.server.host.address, LOOKOUT + 1)
    world.lookOut(second, LOOKOUT)
    return [
        world.seen(world.alice),
        world.seen(world.alice, LOOKOUT + 1),
        world.seen(world.alice, LOOKOUT, second),
    ]


@pytest.mark.parametrize("name", KINDS)
def test_mapping(name: str) -> None:
    one, otherPort, otherHost = views(World(name, serverAddresses=2))
    match KINDS[name].mapping:
        case Mapping.ENDPOINT_INDEPENDENT:
            assert one == otherPort == otherHost
        case Mapping.ADDRESS_DEPENDENT:
            assert one == otherPort != otherHost
        case Mapping.ADDRESS_AND_PORT_DEPENDENT:
            assert len({one, otherPort, otherHost}) == 3


@pytest.mark.parametrize("name", KINDS)
def test_allocation(name: str) -> None:
    world = World(name, serverAddresses=2)
    ports = [view.port for view in views(world)]
    own = world.alice.port.number
    match KINDS[name].allocation:
        case Allocation.PRESERVING:
            assert ports == [own] * 3
        case Allocation.SHIFTED:
            assert ports == [own ^ 0x1A5B] * 3
        case Allocation.COUNTING:
            assert ports == [ports[0], ports[0] + 1, ports[0] + 2]
        case Allocation.BY_ADDRESS | Allocation.RANDOM:
            assert own not in ports


@pytest.mark.parametrize("name", KINDS)
def test_addressesAreTranslatedIfTheKindSaysSo(name: str) -> None:
    world = World(name)
    assert (world.seen(world.alice).host != world.alice.host.address) == KINDS[name].natted


def admitted(world: World, end: str, port: int) -> bool:
    """
    Whether a SYN gets in to Alice's listener, from a host and port that she may have dialled.
    """
    seen = world.seen(world.alice)
    world.alice.port.listen()
    stranger = (world.server if end == "server" else world.bob).host.reactor.makeSocket()
    for option in (2, 15):
        stranger.setsockopt(1, option, 1)
    stranger.bind(("", port))
    stranger.connect_ex((seen.host, seen.port))
    world.run(limit=0.5)
    isIn = bool(world.alice.accepted)
    stranger.close()
    return isIn


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("end", ["server", "bob"])
def test_filtering(name: str, end: str) -> None:
    wanted = {
        Filtering.ENDPOINT_INDEPENDENT: True,
        Filtering.ADDRESS_DEPENDENT: end == "server",
        Filtering.ADDRESS_AND_PORT_DEPENDENT: False,
    }
    assert admitted(World(name), end, 9000) is wanted[KINDS[name].filtering]


@pytest.mark.parametrize("name", BEHIND)
def test_unsolicited(name: str) -> None:
    world = World(name)
    strange = makeAddress(world.alice.host.outside, 1)
    dialled = world.bob.dial(strange)
    world.packets.clear()
    world.run(limit=0.5)
    match KINDS[name].unsolicited:
        case Unsolicited.DROP:
            assert dialled.error is None
        case Unsolicited.RESET:
            assert dialled.error.osError == errno.ECONNREFUSED
            assert any(isinstance(packet, Segment) and packet.rst for packet in world.packets)
        case Unsolicited.ICMP:
            assert dialled.error.osError == errno.ECONNREFUSED
            assert any(isinstance(packet, Complaint) for packet in world.packets)


def test_aCarriersNatHasTwoRouters() -> None:
    world = World("carrier")
    inner, outer = world.alice.host.routers
    assert isinstance(inner, Router)
    assert inner.outside.startswith("100.64.")
    assert outer.outside == world.seen(world.alice).host


def test_aKindOfOnesOwnMaking() -> None:
    # Rare, but there are such: another port for each remote, and yet nobody is kept out.
    kind = NatKind(
        "odd",
        "odd",
        Mapping.ADDRESS_AND_PORT_DEPENDENT,
        Filtering.ENDPOINT_INDEPENDENT,
        allocation=Allocation.RANDOM,
    )
    one, otherPort, _ = views(World(kind, serverAddresses=2))
    assert one != otherPort
    assert admitted(World(kind), "bob", 9000)


@pytest.mark.parametrize("hairpins", [True, False])
def test_hairpinning(hairpins: bool) -> None:
    world = World("full-cone", alice={"hairpins": hairpins})
    neighbour = world.addNeighbour("carol", world.alice.host)
    seen = world.seen(world.alice)
    world.alice.port.listen()
    socket = neighbour.reactor.makeSocket()
    socket.connect_ex((seen.host, seen.port))
    world.run(limit=0.5)
    assert bool(world.alice.accepted) is hairpins
    assert socket.getsockopt(1, 4) == (0 if hairpins else errno.ECONNREFUSED)
    socket.close()


def test_neighboursMeetOnTheirLan() -> None:
    world = World("random")
    carol = world.addNeighbour("carol", world.alice.host)
    world.alice.port.listen()
    before = len(world.packets)
    socket = carol.reactor.makeSocket()
    socket.connect_ex((world.alice.host.address, world.alice.port.number))
    world.run(limit=0.5)
    assert len(world.alice.accepted) == 1
    assert len(world.packets) == before
    socket.close()


def test_twoHostsWithOnePortDoNotShareAMapping() -> None:
    world = World("port-restricted")
    carol = world.addNeighbour("carol", world.alice.host)
    seen = [world.seen(world.alice)]
    socket = carol.reactor.makeSocket()
    socket.bind(("", world.alice.port.number))
    before = len(world._seen)
    socket.connect_ex((world.server.host.address, LOOKOUT))
    world.run(lambda: len(world._seen) > before, 1.0)
    seen.append(world._seen[-1])
    assert seen[0].host == seen[1].host
    assert seen[0].port != seen[1].port
    socket.close()


@pytest.mark.parametrize("name", BEHIND)
def test_aRouterIsAFirewallForIPv6(name: str) -> None:
    world = World(name, ipv6=True)
    alice = makeAddress(str(world.alice.host.ipv6), 5000)
    listening = world.alice.host.reactor.makeSocket(10)
    listening.bind(("::", 5000))
    listening.listen(5)
    dialling = world.bob.host.reactor.makeSocket(10)
    dialling.connect_ex((alice.host, alice.port))
    world.run(limit=0.5)
    assert dialling.isDialling
    # What the inside dials opens the way back.
    out = world.alice.host.reactor.makeSocket(10)
    bob = world.bob.host.reactor.makeSocket(10)
    bob.bind(("::", 6000))
    bob.listen(5)
    out.connect_ex((world.bob.host.ipv6, 6000))
    world.run(limit=0.5)
    assert bob.isReadable
    for socket in (listening, dialling, out, bob):
        socket.close()
