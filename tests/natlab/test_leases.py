"""
Ports that a router lends, from the real C{miniupnpd}: made, renewed, made again, given back; and
what peers do with them.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import attrs
import pytest

from punchd.testing.deployment import Deployment, PeerProcess
from punchd.testing.natlab import Host, NatLab
from punchd.testing.natlab.lending import PROTOCOLS, Lender
from tests.natlab import leaser
from tests.natlab.patience import PATIENCE, until
from tests.natlab.source import Source

pytestmark = pytest.mark.waiting

CONTENT: Final = b"a service of a home"

KNOCK: Final = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), 3) as connection:
        while data := connection.recv(100):
            sys.stdout.write(data.decode())
except OSError as error:
    sys.stdout.write(type(error).__name__)
"""
"""Connects, and prints what comes."""


@attrs.frozen
class World:
    """
    A server, a stranger, and a service that peers may publish.
    """

    lab: NatLab
    deployment: Deployment
    stranger: Host
    source: Source

    def home(self, name: str, kind: str = "random", lends: tuple[str, ...] = PROTOCOLS) -> Host:
        """
        A host behind a router that lends ports.
        """
        return self.lab.addHost(name, kind, lends=lends)

    def peer(self, host: Host, *options: str) -> PeerProcess:
        """
        A peer that exposes the service as C{web}, ready.
        """
        [peer] = self.peers(host, options=options)
        return peer

    def peers(self, *hosts: Host, options: Sequence[str] = ()) -> list[PeerProcess]:
        """
        The same on several hosts; they trust each other.
        """
        exposures = {"web": self.source.endpoint}
        peers = [
            self.deployment.addPeer(host, exposures=exposures, options=options) for host in hosts
        ]
        self.deployment.acquaint(peers)
        self.deployment.start()
        return peers

    def knock(self, address: str) -> str:
        """
        What a stranger gets at an address, or the name of the error.
        """
        host, _, port = address.rpartition(":")
        return self.stranger.run([sys.executable, "-IS", "-c", KNOCK, host, port]).stdout


@pytest.fixture
def world() -> Iterator[World]:
    with (
        NatLab(delay=0.01) as lab,
        Deployment(lab.addPublic("server")) as deployment,
        Source(deployment.folder / "source", CONTENT) as source,
    ):
        yield World(lab, deployment, lab.addPublic("stranger"), source)


def published(peer: PeerProcess) -> dict[str, Any]:
    """
    What a peer says of its service.
    """
    status = peer.status()
    assert status is not None
    found: dict[str, Any] = status["published"]["web"]
    return found


def awaitPublished(peer: PeerProcess, timeout: float = PATIENCE) -> dict[str, Any]:
    """
    The same, once it has an address.
    """
    until(lambda: published(peer)["address"], f"published: {published(peer)}", timeout)
    return published(peer)


def awaitFound(peer: PeerProcess) -> None:
    """
    Wait until its server has dialled its leased port.
    """
    until(lambda: "finds us at" in peer.said(), "found by the server")


def lenderOf(host: Host) -> Lender:
    """
    What lends ports before a host.
    """
    assert host.router is not None
    assert host.router.lender is not None
    return host.router.lender


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_aStrangerReachesAPublishedService(world: World, protocol: str) -> None:
    """
    Behind the hardest NAT, and by each protocol alone.
    """
    host = world.home("home", lends=(protocol,))
    peer = world.peer(host, "--publish", "web=8080")
    facts = awaitPublished(peer)
    assert facts == {"address": f"{host.outside}:8080", "by": protocol, "problem": None}
    assert world.knock(facts["address"]) == CONTENT.decode()
    status = peer.command("status").stdout
    assert f"publishes web at {host.outside}:8080 ({protocol})" in status
    assert "dport 8080" in lenderOf(host).lent()
    peer.stop()
    assert "dport" not in lenderOf(host).lent()


def test_ofAllProtocolsTheBestIsUsed(world: World) -> None:
    """
    PCP before the others.
    """
    peer = world.peer(world.home("home"), "--publish", "web=8080")
    assert awaitPublished(peer)["by"] == "pcp"


@attrs.define
class Keeper:
    """
    A program that keeps one lease with short times.
    """

    process: subprocess.Popen[str]

    @classmethod
    def on(cls, host: Host, check: float, lifetime: float) -> Keeper:
        """
        Start it.
        """
        argv = [sys.executable, leaser.__file__, 5000, check, lifetime]
        return cls(
            host.popen(
                list(map(str, argv)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        )

    def said(self) -> str:
        """
        Its next line.
        """
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        """
        Let it give everything back.
        """
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(10)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_aLeaseIsRenewedBeforeItEnds(world: World, protocol: str) -> None:
    """
    Lifetimes of four seconds; after nine it is still there, and when nobody wants it, it is not.
    """
    host = world.home("home", lends=(protocol,))
    keeper = Keeper.on(host, check=60.0, lifetime=4.0)
    told = keeper.said()
    assert told.startswith(f"{protocol} {host.outside}:")
    for _ in range(9):
        time.sleep(1.0)
        assert f"dnat ip to {host.address}:5000" in lenderOf(host).lent()
    keeper.end()
    assert "dnat" not in lenderOf(host).lent()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_aRouterThatRestartsLendsAgain(world: World, protocol: str) -> None:
    """
    It has forgotten everything, which is noticed by a check, long before the lease's half life.
    """
    host = world.home("home", lends=(protocol,))
    keeper = Keeper.on(host, check=1.0, lifetime=7200.0)
    told = keeper.said()
    # So that its clock has gone back by more than may be an error (RFC 6886, 3.6).
    time.sleep(5.0)
    lenderOf(host).restart()
    assert "dnat" not in lenderOf(host).lent()
    until(lambda: "dnat" in lenderOf(host).lent(), "lent again")
    keeper.end()
    assert told


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_anotherOutsideAddressIsNoticed(world: World, protocol: str) -> None:
    """
    The provider has given the router another address.
    """
    host = world.home("home", lends=(protocol,))
    keeper = Keeper.on(host, check=1.0, lifetime=4.0)
    assert f" {host.outside}:" in keeper.said()
    new = world.lab.renumber(host)
    assert f" {new}:" in keeper.said()
    keeper.end()


def test_aPeerFollowsItsRouterToAnotherAddress(world: World) -> None:
    """
    Its service is to be reached at the new one, and other peers come in there.
    """
    host = world.home("home")
    hosts = (host, world.lab.addHost("other", "random"))
    peer, other = world.peers(*hosts, options=("--publish", "web=8080"))
    awaitPublished(peer)
    awaitFound(peer)
    new = world.lab.renumber(host)
    # The connection to the server dies by it; the next one shows where the peer is seen now.
    until(lambda: published(peer)["address"] == f"{new}:8080", "published at the new address", 40)
    assert world.knock(f"{new}:8080") == CONTENT.decode()
    until(lambda: f"finds us at {new}:" in peer.said(), "found at the new address", 30)
    assert other.ping(peer)["strategy"] == "mapped"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_aKilledPeerGetsItsPortBack(world: World, protocol: str) -> None:
    """
    The router still has the lease of the process before, which could not give it back.
    """
    host = world.home("home", lends=(protocol,))
    peer = world.peer(host, "--publish", "web=8080")
    before = awaitPublished(peer)
    peer.kill()
    assert "dport 8080" in lenderOf(host).lent()
    peer.start()
    peer.awaitReady()
    assert awaitPublished(peer) == before
    assert world.knock(before["address"]) == CONTENT.decode()


def test_twoPeersBehindOneRouterWantTheSamePort(world: World) -> None:
    """
    One gets it, the other gets another, and is told.
    """
    host = world.home("one")
    one = world.peer(host, "--publish", "web=8080")
    first = awaitPublished(one)
    other = world.peer(world.lab.addNeighbour("two", host), "--publish", "web=8080")
    second = awaitPublished(other)
    assert first["address"] == f"{host.outside}:8080"
    assert second["address"] != first["address"]
    assert second["problem"] == "the router does not lend port 8080, but this one"
    for facts in (first, second):
        assert world.knock(facts["address"]) == CONTENT.decode()
    one.stop()
    assert world.knock(second["address"]) == CONTENT.decode()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_twoSymmetricNATsAreCrossedIfOneLendsAPort(world: World, protocol: str) -> None:
    """
    Nothing else crosses them, whichever of the two calls.
    """
    hosts = (world.home("owner", lends=(protocol,)), world.lab.addHost("other", "random"))
    owner, other = world.peers(*hosts)
    awaitFound(owner)
    for caller, callee in ((other, owner), (owner, other)):
        facts = caller.ping(callee)
        assert (facts["path"], facts["strategy"]) == ("direct", "mapped"), facts
    assert other.fetch(owner, "web") == CONTENT


def test_withoutALeaseTheyAreNot(world: World) -> None:
    """
    So that the test before proves something.
    """
    one, other = world.peers(*(world.lab.addHost(name, "random") for name in ("one", "two")))
    facts = one.ping(other)
    assert facts["path"] is None
    assert "symmetric" in facts["reason"]


def test_withoutARouterThatLendsItIsSaidWhy(world: World) -> None:
    """
    All that was asked, and what came of it.
    """
    peer = world.peer(world.lab.addHost("home", "random"), "--publish", "web=8080")

    def isSaid() -> bool:
        return "lends no ports" in (published(peer)["problem"] or "")

    until(isSaid, "said why")
    assert published(peer)["address"] is None
    assert "pcp: " in published(peer)["problem"]
    assert "does not publish web: the router at" in peer.command("status").stdout


def test_aSecondNATBeforeTheRouterIsSaid(world: World) -> None:
    """
    What the inner router would lend is of no use to strangers.
    """
    peer = world.peer(world.home("home", "carrier"), "--publish", "web=8080")

    def isSaid() -> bool:
        return "pcp: " in (published(peer)["problem"] or "")

    until(isSaid, "said why")
    assert published(peer)["address"] is None


def test_withoutANATThePeerJustListens(world: World) -> None:
    """
    On the address under which the server sees it.
    """
    host = world.lab.addPublic("public")
    peer = world.peer(host, "--publish", "web=8080")
    assert awaitPublished(peer) == {
        "address": f"{host.address}:8080",
        "by": "no NAT",
        "problem": None,
    }
    assert world.knock(f"{host.address}:8080") == CONTENT.decode()
