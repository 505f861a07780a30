"""
Ways that need no punch, or another kind of address: C{ipv6}, C{direct} and its reverse, C{lan}.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import attrs
import pytest

from punchd.peer.families import GLANCE
from punchd.testing.deployment import Deployment, PeerProcess
from punchd.testing.natlab import Host, NatLab
from punchd.values.nat import Filtering
from tests.natlab.source import Source

DELAY: Final = 0.04
ROUND_TRIP: Final = 2 * DELAY
SIZE: Final = 100_000


@attrs.frozen
class World:
    """
    Processes in a lab, found by what is special about their hosts.
    """

    lab: NatLab
    deployment: Deployment

    def __getitem__(self, name: str) -> PeerProcess:
        return self.deployment.peers[name]

    def ping(self, caller: str, callee: str) -> dict[str, Any]:
        return self[caller].ping(self[callee])

    def quickest(self, caller: str, callee: str) -> float:
        """
        The round trips that the best of five takes until TCP is connected, as the caller sees it.
        """
        facts = [self.ping(caller, callee) for _ in range(5)]
        return min(float(each["seconds"]["connected"]) for each in facts) / ROUND_TRIP


# ipv6


@pytest.fixture(scope="module")
def sixth() -> Iterator[World]:
    """
    A server that speaks both, and random NATs, which nothing crosses in pairs; most have IPv6, too.
    """
    with NatLab(delay=DELAY) as lab:
        server = lab.addPublic("server", ipv6=True)
        assert server.ipv6 is not None
        options = ["--host", server.ipv6, "--master", "tcp6:7761"]
        options += ["--assist", "tcp6:7762", "--assist", "tcp6:7763"]
        with (
            Deployment(server, options) as deployment,
            Source(deployment.folder / "source", bytes(SIZE)) as source,
        ):
            for name in ("left", "right"):
                host = lab.addHost(name, "random", ipv6=True)
                deployment.addPeer(host, exposures={"source": source.endpoint})
            for name in ("reset", "icmp"):
                deployment.addPeer(lab.addHost(name, name, ipv6=True))
            deployment.addPeer(lab.addHost("mover", "random", ipv6=True))
            deployment.addPeer(lab.addHost("hole", "port-restricted", ipv6=True))
            # These find the server by its IPv6 address.
            for name in ("left6", "right6"):
                host = lab.addHost(name, "random", ipv6=True)
                deployment.addPeer(host, at=server.ipv6)
            punching = ["--strategies", "simultaneous"]
            host = lab.addHost("plain6", "random", ipv6=True)
            deployment.addPeer(host, at=server.ipv6, options=punching)
            deployment.addPeer(lab.addHost("old", "random"))
            deployment.acquaint()
            deployment.start()
            yield World(lab, deployment)


@pytest.mark.parametrize(
    ("caller", "callee"),
    [("left", "right"), ("right", "left"), ("reset", "left"), ("left", "icmp"), ("reset", "icmp")],
)
def test_statefulFirewallsArePunched(sixth: World, caller: str, callee: str) -> None:
    facts = sixth.ping(caller, callee)
    assert (facts["path"], facts["strategy"]) == ("direct", "ipv6")


def test_itTakesOneRoundTripAfterTheGo(sixth: World) -> None:
    assert sixth.quickest("left", "right") <= 2.3


@pytest.mark.parametrize(
    ("caller", "callee"), [("left", "right6"), ("left6", "right"), ("left6", "right6")]
)
def test_itDoesNotMatterHowTheServerIsReached(sixth: World, caller: str, callee: str) -> None:
    facts = sixth.ping(caller, callee)
    assert (facts["path"], facts["strategy"]) == ("direct", "ipv6")


def test_thePortTowardAnIPv6ServerCanBePunchedToo(sixth: World) -> None:
    """
    Without the strategy, the address that the server sees is one of IPv6 like any other.
    """
    facts = sixth.ping("plain6", "left6")
    assert (facts["path"], facts["strategy"]) == ("direct", "simultaneous")


def test_severalStreamsAtATime(sixth: World) -> None:
    """
    Each has a pair of ports of its own, so they are not in each other's way.
    """
    with ThreadPoolExecutor(3) as pool:
        fetching = [pool.submit(sixth["left"].fetch, sixth["right"], "source") for _ in range(3)]
        assert [len(each.result()) for each in fetching] == [SIZE] * 3


def test_withoutIPv6OnBothSidesThereIsNoPath(sixth: World) -> None:
    facts = sixth.ping("left", "old")
    assert facts["path"] is None
    assert "both NATs are symmetric" in facts["reason"]


def test_twoFamiliesThatCannotMeetAreToldApart(sixth: World) -> None:
    """
    One side is known by IPv6 alone, the other by IPv4 alone.
    """
    done = sixth["old"].command("ping", "left6", "--json", check=False)
    reason = json.loads(done.stdout)["reason"]
    assert done.returncode == 1
    assert "by IPv4, the other one by IPv6" in reason


def test_whereIPv6LeadsNowhereIPv4HardlyWaits(sixth: World) -> None:
    """
    The server can be reached by it, the other side cannot.
    """
    host, there = sixth["hole"].host, sixth["reset"].host.ipv6
    assert host.router is not None
    rule = f"insert rule ip6 firewall forward ip6 daddr {there} drop"
    host.router.run(["nft", *rule.split()])
    facts = sixth.ping("hole", "reset")
    assert (facts["path"], facts["strategy"]) == ("direct", "simultaneous")
    assert facts["seconds"]["connected"] < 1.0


def test_anotherAddressIsOfferedSoon(sixth: World) -> None:
    """
    Privacy addresses and new prefixes come while a peer runs.
    """
    peer = sixth["mover"]
    old = peer.host.ipv6
    assert old is not None
    new = f"{old}99"
    commands = [f"addr add {new}/64 dev eth0 nodad", f"addr del {old}/64 dev eth0"]
    peer.host.run(["ip", "-6", "-batch", "-"], input="\n".join(commands) + "\n")

    def isOffered() -> bool:
        (server,) = (peer.status() or {})["servers"]
        return str(server["ipv6"]).startswith(f"[{new}]:")

    peer.waitFor(isOffered, "known by its new IPv6 address", GLANCE + 5.0)
    facts = sixth.ping("left", "mover")
    assert (facts["path"], facts["strategy"]) == ("direct", "ipv6")


def test_theStatusNamesTheAddressThatTheServerObserved(sixth: World) -> None:
    address = sixth["left"].host.ipv6
    (server,) = (sixth["left"].status() or {})["servers"]
    assert server["ipv6"].startswith(f"[{address}]:")
    (server,) = (sixth["old"].status() or {})["servers"]
    assert server["ipv6"] is None


# direct


OPEN: Final = ("public", "full-cone")
BEHIND: Final = ("port-restricted", "reset", "random")


@pytest.fixture(scope="module")
def reachable() -> Iterator[World]:
    """
    A server with two addresses, so that peers learn that anybody may dial them.
    """
    with NatLab(delay=DELAY) as lab:
        server = lab.addPublic("server", addresses=2)
        first, second = server.addresses
        options = ["--assist", f"tcp:7762:interface={first}"]
        options += ["--assist", f"tcp:7763:interface={first}"]
        options += ["--assist", f"tcp:7762:interface={second}"]
        with Deployment(server, options) as deployment:
            for kind in OPEN:
                deployment.addPeer(lab.addHost(f"{kind}.2", kind))
                host = lab.addHost(f"{kind}.only", kind)
                deployment.addPeer(host, options=["--strategies", "direct"])
                deployment.addPeer(lab.addHost(f"{kind}.lies", kind))
            for kind in (*OPEN, *BEHIND):
                deployment.addPeer(lab.addHost(kind, kind))
            deployment.acquaint()
            deployment.start()
            world = World(lab, deployment)
            for peer in deployment.peers.values():
                awaitFiltering(peer)
            yield world


def awaitFiltering(peer: PeerProcess) -> None:
    """
    Wait until a peer knows whom its NAT lets in, which takes some silence.
    """

    def knows() -> bool:
        servers = (peer.status() or {}).get("servers", [])
        return any("/EIF" in (server["nat"] or "") for server in servers)

    if peer.host.kind.filtering is Filtering.ENDPOINT_INDEPENDENT:
        peer.waitFor(knows, "aware that anybody may dial it", 20.0)


@pytest.mark.parametrize("callee", [f"{kind}.2" for kind in OPEN])
@pytest.mark.parametrize("caller", [*OPEN, *BEHIND])
def test_whoIsReachableIsDialled(reachable: World, caller: str, callee: str) -> None:
    facts = reachable.ping(caller, callee)
    assert (facts["path"], facts["strategy"]) == ("direct", "direct")


@pytest.mark.parametrize("callee", [f"{kind}.2" for kind in OPEN])
def test_dialledItIsThereInOneRoundTrip(reachable: World, callee: str) -> None:
    assert reachable.quickest("port-restricted", callee) <= 2.3


@pytest.mark.parametrize("callee", BEHIND)
@pytest.mark.parametrize("caller", [f"{kind}.only" for kind in OPEN])
def test_aReachableCallerIsDialled(reachable: World, caller: str, callee: str) -> None:
    """
    The reverse: the callee dials.
    """
    facts = reachable.ping(caller, callee)
    assert (facts["path"], facts["strategy"]) == ("direct", "direct")


@pytest.mark.parametrize("caller", OPEN)
def test_aSymmetricCalleeDials(reachable: World, caller: str) -> None:
    facts = reachable.ping(caller, "random")
    assert (facts["path"], facts["strategy"]) == ("direct", "direct")


@pytest.mark.parametrize("caller", OPEN)
def test_whereSynsCrossNobodyWaitsForTheReverse(reachable: World, caller: str) -> None:
    assert reachable.quickest(caller, "port-restricted") <= 2.3


CLOSED: Final = """
table ip closed {
    chain input {
        type filter hook input priority filter;
        ct state established,related accept
        tcp flags & (syn | ack) == syn drop
    }
}
"""


def closeFirewall(host: Host) -> None:
    host.run(["nft", "-f", "-"], input=CLOSED)


def closeCone(host: Host) -> None:
    assert host.router is not None
    # The chain sees the first packet of each connection alone.
    host.router.run(["nft", "insert", "rule", "ip", "nat_kind", "prerouting", "iifname wan drop"])


@pytest.mark.parametrize(
    ("callee", "close"), [("public.lies", closeFirewall), ("full-cone.lies", closeCone)]
)
@pytest.mark.parametrize("caller", ["port-restricted", "reset"])
def test_aWrongProfileCostsLittle(
    reachable: World, caller: str, callee: str, close: Callable[[Host], None]
) -> None:
    """
    Whoever is taken for reachable, and is not, is punched nearly as soon as others.
    """
    close(reachable[callee].host)
    facts = reachable.ping(caller, callee)
    assert facts["path"] == "direct"
    assert facts["strategy"] != "direct"
    assert facts["seconds"]["connected"] < 1.0 + 3 * ROUND_TRIP


# lan


def isolate(one: Host, two: Host) -> None:
    """
    Let a router pass nothing between two neighbours, as in a guests' network.
    """
    assert one.router is not None
    ports = one.router.run(["ip", "-o", "link", "show", "master", "lan"]).stdout
    for line in ports.splitlines():
        port = line.split()[1].partition("@")[0]
        one.router.run(["bridge", "link", "set", "dev", port, "isolated", "on"])


def addNetwork(host: Host, device: str, address: str, to: Host | None = None) -> None:
    """
    Give a host another interface: a cable to another one, or one that leads nowhere.
    """
    far = f"peer name {device}" + ("-end" if to is None else f" netns {to.namespace}")
    commands = [f"link add {device} type veth {far}"]
    host.run(["ip", "-batch", "-"], input="\n".join(commands) + "\n")
    plug(host, device, address)


def plug(host: Host, device: str, address: str) -> None:
    commands = [f"addr add {address}/24 dev {device}", f"link set {device} up"]
    host.run(["ip", "-batch", "-"], input="\n".join(commands) + "\n")


@pytest.fixture(scope="module")
def neighbours() -> Iterator[World]:
    with NatLab(delay=DELAY) as lab, Deployment(lab.addPublic("server")) as deployment:
        for name, kind, hairpins in (
            ("plain", "port-restricted", False),
            ("hairpin", "port-restricted", True),
            ("guests", "full-cone", False),
            ("turned", "full-cone", True),
            ("cabled", "random", False),
        ):
            one = lab.addHost(name, kind, hairpins=hairpins)
            two = lab.addNeighbour(f"{name}.2", one)
            if name in ("guests", "turned", "cabled"):
                isolate(one, two)
            if name == "cabled":
                addNetwork(one, "dead", "10.66.0.1")
                addNetwork(two, "dead", "10.66.0.2")
                addNetwork(one, "cable", "10.77.0.1", two)
                plug(two, "cable", "10.77.0.2")
            for host in (one, two):
                deployment.addPeer(host)
        deployment.acquaint()
        deployment.start()
        yield World(lab, deployment)


@pytest.mark.parametrize("name", ["plain", "hairpin"])
def test_neighboursMeetWhetherTheRouterHairpinsOrNot(neighbours: World, name: str) -> None:
    facts = neighbours.ping(name, f"{name}.2")
    assert (facts["path"], facts["strategy"]) == ("direct", "lan")
    assert facts["rtt"] < DELAY


@pytest.mark.parametrize(("caller", "callee"), [("cabled", "cabled.2"), ("cabled.2", "cabled")])
def test_theInterfaceThatLeadsThereIsFound(neighbours: World, caller: str, callee: str) -> None:
    """
    Of three, the one toward the server and another one lead nowhere.
    """
    facts = neighbours.ping(caller, callee)
    assert (facts["path"], facts["strategy"]) == ("direct", "lan")
    assert facts["rtt"] < DELAY
    assert f"authenticated {callee} on a connection" in neighbours[caller].said()


def test_neighboursWhoMayNotMeetAreTurnedBackByARouterThatHairpins(neighbours: World) -> None:
    facts = neighbours.ping("turned", "turned.2")
    assert facts["path"] == "direct"
    tries = [tried for each in facts["attempts"] for tried in each["tries"]]
    remotes = {tried["remote"] for tried in tries if tried["result"] == "connected"}
    # Whichever strategy's listener took it, it came by way of the router.
    outside = neighbours["turned"].host.outside
    assert remotes
    assert all(remote.startswith(f"{outside}:") for remote in remotes)


def test_withoutHairpinTheyDoNotMeet(neighbours: World) -> None:
    assert neighbours.ping("guests", "guests.2")["path"] is None
