"""
What C{punchd nat} says of NATs of all kinds.

Each is looked at a few times; with C{PUNCHD_NAT_RUNS=20}, more often.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import attrs
import pytest

from punchd.server.dialling import DIAL_BACKS_PER_SECOND, PATIENCE
from punchd.testing.daemons import ask
from punchd.testing.deployment import Deployment, PeerProcess
from punchd.testing.natlab import KINDS, Host, NatKind, NatLab
from punchd.testing.natlab.kinds import Allocation
from punchd.values.nat import Filtering, Mapping, Unsolicited
from tests.natlab import traffic

pytestmark = pytest.mark.natlab

RUNS: Final = int(os.environ.get("PUNCHD_NAT_RUNS", "2"))

DELAY: Final = 0.025
"""Seconds one way."""

SLACK: Final = 0.25
"""Seconds that a busy machine may take for what takes no time by itself."""

MOST_DIALLED: Final = 4
"""How often a server dials a peer in one discovery."""

HAIRPINNING: Final = ("port-restricted", "full-cone", "shifted")


@attrs.frozen
class World:
    """
    A server with two addresses, and one with one, and peers behind NATs of all kinds.
    """

    lab: NatLab
    two: Deployment
    one: Deployment


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with NatLab(DELAY) as lab:
        server = lab.addPublic("server", addresses=2)
        options = ("--assist", "tcp:7762", "--assist", f"tcp:7763:interface={server.addresses[1]}")
        with Deployment(server, options) as two, Deployment(lab.addPublic("small")) as one:
            for name in KINDS:
                host = lab.addHost(name, name)
                two.addPeer(host)
                one.addPeer(host)
            for name in HAIRPINNING:
                two.addPeer(lab.addHost(f"{name}-turns", name, hairpins=True))
            yield World(lab, two, one)


def look(peer: PeerProcess) -> dict[str, Any]:
    """
    Let the peer look anew.
    """
    answer = ask(peer.state, "nat", again="yes")
    assert answer is not None
    assert answer.pop("ok"), answer
    return answer


def started(deployment: Deployment, name: str) -> PeerProcess:
    """
    That peer, with its server, and nobody else: they would slow each other down.
    """
    peer = deployment.peers[name]
    if not deployment.server.isRunning:
        deployment.server.start()
        deployment.server.awaitReady()
    if not peer.isRunning:
        peer.start()
        peer.awaitReady()
    return peer


@pytest.fixture
def peer(world: World, request: pytest.FixtureRequest) -> Iterator[PeerProcess]:
    """
    The peer of that name, with the server that has two addresses.
    """
    peer = started(world.two, request.param)
    yield peer
    peer.kill()


def looks(peer: PeerProcess, runs: int) -> list[dict[str, Any]]:
    """
    Let the peer look so often, not faster than its server likes to dial it.
    """
    found = []
    for _ in range(runs):
        began = time.monotonic()
        found.append(look(peer))
        pause = MOST_DIALLED / DIAL_BACKS_PER_SECOND - (time.monotonic() - began)
        time.sleep(max(0.0, pause))
    return found


def lookedAt(deployment: Deployment, runs: int) -> dict[str, list[dict[str, Any]]]:
    """
    Let all peers look so often, at the same time, as most of it is waiting for silence.
    """
    deployment.start()
    peers = deployment.peers
    try:
        with ThreadPoolExecutor(len(peers)) as pool:
            looking = {name: pool.submit(looks, peer, runs) for name, peer in peers.items()}
            return {name: found.result() for name, found in looking.items()}
    finally:
        for peer in peers.values():
            peer.kill()


@pytest.fixture(scope="module")
def fromTwo(world: World) -> dict[str, list[dict[str, Any]]]:
    """
    What the peers have found with the server that has two addresses.
    """
    return lookedAt(world.two, RUNS)


@pytest.fixture(scope="module")
def fromOne(world: World) -> dict[str, list[dict[str, Any]]]:
    """
    The same, with the server that has one.
    """
    return lookedAt(world.one, RUNS)


ALLOCATIONS: Final = {Allocation.PRESERVING: "preserving", Allocation.COUNTING: "counting"}


def expected(host: Host, kind: NatKind) -> dict[str, Any]:
    """
    What is to be found out.
    """
    admitsAll = kind.natted and kind.filtering is Filtering.ENDPOINT_INDEPENDENT
    return {
        "address": host.outside,
        "translated": kind.natted,
        "mapping": kind.mapping.value,
        "filtering": kind.filtering.value,
        "unsolicited": None if admitsAll else kind.unsolicited.value,
        "preserving": kind.allocation is Allocation.PRESERVING,
        "allocation": ALLOCATIONS.get(kind.allocation, "random"),
        "delta": 1 if kind.allocation is Allocation.COUNTING else None,
        "hairpin": False if kind.natted else None,
        "doubleNat": bool(kind.layers),
        "contradictions": [],
        "complete": True,
    }


@pytest.mark.parametrize("name", KINDS)
def test_everyKindIsNamedCorrectly(
    world: World, fromTwo: dict[str, list[dict[str, Any]]], name: str
) -> None:
    host = world.two.peers[name].host
    wanted = {**expected(host, host.kind), "fromOneAddress": False}
    for found in fromTwo[name]:
        assert {key: found[key] for key in wanted} == wanted
    assert len(fromTwo[name]) == RUNS


@pytest.mark.parametrize("name", HAIRPINNING)
def test_aHairpinIsSeen(fromTwo: dict[str, list[dict[str, Any]]], name: str) -> None:
    for found in fromTwo[f"{name}-turns"]:
        assert found["hairpin"] is True
        assert found["contradictions"] == []


@pytest.mark.parametrize("name", KINDS)
def test_aServerWithOneAddressSaysWhatItCannotTell(
    world: World, fromOne: dict[str, list[dict[str, Any]]], name: str
) -> None:
    """
    Then a mapping by address looks endpoint-independent, and filtering that lets in another port
    may let in everybody.
    """
    host = world.one.peers[name].host
    kind = host.kind
    wanted = {**expected(host, kind), "fromOneAddress": True}
    isGuessed = set()
    if kind.mapping is not Mapping.ADDRESS_AND_PORT_DEPENDENT:
        wanted["mapping"] = "EIM"
        isGuessed.add("whether another address is shown another port")
    if kind.filtering is not Filtering.ADDRESS_AND_PORT_DEPENDENT:
        wanted["filtering"] = "ADF"
        isGuessed.add("whether another address is let in, too")
        wanted["unsolicited"] = None if kind.natted else Unsolicited.RESET.value
    for found in fromOne[name]:
        assert {key: found[key] for key in wanted} == wanted
        needs = {text.partition(":")[0] for text in found["unclear"] if "--assist" in text}
        assert needs == isGuessed


@pytest.mark.parametrize("peer", ["public", "reset", "icmp", "port-restricted"], indirect=True)
def test_itTakesSixRoundTripsAndTheSilence(
    peer: PeerProcess, record_property: Callable[[str, object], None]
) -> None:
    silence = PATIENCE if peer.host.kind.unsolicited is Unsolicited.DROP else 0.0
    took = []
    for _ in range(5):
        began = time.monotonic()
        look(peer)
        took.append(time.monotonic() - began)
    rounds = sorted((each - silence) / (2 * DELAY) for each in took)
    record_property("rounds", [round(each, 1) for each in rounds])
    assert min(took) <= 6 * 2 * DELAY + silence + SLACK


@pytest.mark.parametrize("peer", ["port-restricted"], indirect=True)
def test_nobodyWaitsForIt(peer: PeerProcess) -> None:
    """
    The peer can be called, and offers what is known quickly, while it listens to silence.
    """
    peer.kill()
    peer.start()
    peer.awaitConnected()
    server = (peer.status() or {})["servers"][0]
    assert server["nat"] is None or "still looking" in server["nat"]
    peer.awaitReady()
    server = (peer.status() or {})["servers"][0]
    assert server["mapping"] == "EIM"
    assert "still looking" in server["nat"]


@pytest.mark.parametrize("peer", ["port-restricted"], indirect=True)
def test_aChangeOfNetworksIsNoticed(peer: PeerProcess) -> None:
    """
    In the middle of a discovery this host gets another address: it is back at once, without
    waiting until pings are missed, and looks anew.
    """
    host = peer.host
    assert host.router is not None
    new = host.address.rpartition(".")[0] + ".99"
    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(ask, peer.state, "nat", again="yes")
        time.sleep(0.3)
        marked = peer.logged
        move(host, host.address, new)
        try:
            took = peer.waitFor(lambda: "connecting anew" in peer.said(marked), "back", 5.0)
            took += peer.awaitConnected()
            looking.result()
            found = ask(peer.state, "nat", again="no")
        finally:
            move(host, new, host.address)
    assert took < 4.0
    assert found is not None
    wanted = expected(host, host.kind)
    assert {key: found[key] for key in wanted} == wanted


def move(host: Host, old: str, new: str) -> None:
    """
    Give the host another address, as a change of networks does.
    """
    assert host.router is not None
    for command in (
        ["ip", "addr", "del", f"{old}/24", "dev", "eth0"],
        ["ip", "addr", "add", f"{new}/24", "dev", "eth0"],
        ["ip", "route", "replace", "default", "via", host.router.gateway],
    ):
        host.run(command, check=True)


def test_severalAddressesOutsideAreAContradiction() -> None:
    """
    A carrier that spreads its customers' connections over several addresses.
    """
    with NatLab(0.0) as lab, Deployment(lab.addPublic("server")) as deployment:
        peer = deployment.addPeer(lab.addHost("spread", "port-restricted"))
        router = peer.host.router
        assert router is not None
        second = router.outside.rpartition(".")[0] + ".4"
        router.run(["ip", "addr", "add", f"{second}/29", "dev", "wan"], check=True)
        rule = ["oifname", "wan", "tcp", "dport", "7763", "snat", "to", second]
        router.run(["nft", "insert", "rule", "ip", "nat_kind", "postrouting", *rule], check=True)
        deployment.start()
        found = look(peer)
    assert found["address"] is None
    assert found["mapping"] is None
    # The rest is not touched by it.
    assert (found["filtering"], found["allocation"]) == ("APDF", "preserving")
    [contradiction] = found["contradictions"]
    assert router.outside in contradiction
    assert second in contradiction


def test_aCountingNatIsOneAlsoWhenOthersUseIt(world: World) -> None:
    """
    Somebody else on the LAN makes connections meanwhile.
    """
    host = world.two.peers["counting"].host
    peer = started(world.two, "counting")
    busy = world.lab.addNeighbour("busy", host)
    arguments = [world.two.server.host.address, "9", "100"]
    with busy.popen(
        [sys.executable, "-IS", traffic.__file__, *arguments], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = [look(peer) for _ in range(RUNS)]
        process.kill()
    peer.kill()
    assert [(each["allocation"], each["delta"]) for each in found] == [("counting", 1)] * RUNS
