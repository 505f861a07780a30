"""
Every kind of NAT with every other, real processes on both sides: who gets a direct connection, who
cannot, and what they are told then.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from itertools import combinations_with_replacement, product
from subprocess import CompletedProcess
from typing import Any, Final

import attrs
import pytest

from punchd.testing.deployment import Deployment, PeerProcess
from punchd.testing.natlab import KINDS, NatLab
from punchd.values.nat import Filtering
from tests.natlab.source import Source

DELAY: Final = 0.01

SIZE: Final = 300_000
"""Bytes of a transfer that the server must not see."""

OVERHEAD: Final = 60_000
"""Bytes on the server's link that one introduction and all peers' pings may cost meanwhile."""

PATIENCE: Final = 1.0
"""Seconds in which a person hears that it cannot be done, as both offers show it."""

SYMMETRIC: Final = [name for name, kind in KINDS.items() if kind.symmetric]
CONES: Final = [name for name in KINDS if name not in SYMMETRIC]

COUNTING: Final = "counting"

REACHABLE: Final = {
    name for name in CONES if KINDS[name].filtering is Filtering.ENDPOINT_INDEPENDENT
}
"""Those whom anybody may dial."""

OPEN: Final = [
    name for name in CONES if KINDS[name].filtering is not Filtering.ADDRESS_AND_PORT_DEPENDENT
]
"""Those that let in a SYN from another port than the one they have seen."""


def isDirect(one: str, other: str) -> bool:
    """
    Whether two kinds of NAT can be crossed: all, but for two symmetric ones of which one cannot be
    predicted.
    """
    return one not in SYMMETRIC or other not in SYMMETRIC or (one, other) == (COUNTING, COUNTING)


DIRECT: Final[list[tuple[str, str]]] = [pair for pair in product(KINDS, KINDS) if isDirect(*pair)]
"""Caller's and callee's kind: each pair comes both ways round."""

HOPELESS: Final[list[tuple[str, str]]] = [
    pair for pair in product(KINDS, KINDS) if not isDirect(*pair)
]


def expected(one: str, other: str) -> set[str]:
    """
    The strategies by which two kinds of NAT should be crossed.
    """
    if {one, other} & REACHABLE:
        # Which of the two is quicker depends on who calls, and on what the peers know by then.
        return {"direct", "simultaneous"}
    symmetric = {one, other} & set(SYMMETRIC)
    if not symmetric or {one, other} & set(OPEN):
        return {"simultaneous"}
    return {"predicted"} if symmetric == {COUNTING} else {"birthday"}


@attrs.frozen
class World:
    """
    Two peers behind NATs of each kind, not the same NAT, and two neighbours.
    """

    deployment: Deployment

    def pair(self, caller: str, callee: str) -> tuple[PeerProcess, PeerProcess]:
        """
        A peer behind each of two kinds of NAT.
        """
        peers = self.deployment.peers
        return peers[f"{caller}.left"], peers[f"{callee}.right"]

    def neighbours(self) -> tuple[PeerProcess, PeerProcess]:
        """
        Two peers on one LAN.
        """
        peers = self.deployment.peers
        return peers["lan.left"], peers["lan.right"]

    def fetchedPastServer(self, pair: tuple[PeerProcess, PeerProcess]) -> tuple[int, int]:
        """
        Let one peer fetch all that the other's service gives.

        @return: how many bytes came, and how many bytes crossed the server's link meanwhile.
        """
        caller, callee = pair
        server = self.deployment.server.host
        before = server.linkBytes()
        fetched = caller.fetch(callee, "source")
        return len(fetched), server.linkBytes() - before


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with (
        NatLab(delay=DELAY) as lab,
        Deployment(lab.addPublic("server", addresses=2)) as deployment,
        Source(deployment.folder / "source", bytes(SIZE)) as source,
    ):
        hosts = [
            lab.addHost(f"{kind}.{side}", kind) for kind in KINDS for side in ("left", "right")
        ]
        hosts.append(lab.addHost("lan.left", "port-restricted"))
        hosts.append(lab.addNeighbour("lan.right", hosts[-1]))
        for host in hosts:
            deployment.addPeer(host, exposures={"source": source.endpoint})
        deployment.acquaint()
        deployment.start()
        deployment.awaitKnown()
        yield World(deployment)


@pytest.mark.parametrize(("caller", "callee"), DIRECT)
def test_direct(
    world: World, caller: str, callee: str, record_property: Callable[[str, object], None]
) -> None:
    """
    The pair connects directly, by the first strategy that can.
    """
    one, other = world.pair(caller, callee)
    facts = one.ping(other)
    if facts["path"] is None and "icmp" in (caller, callee):
        # On a busy machine, some SYNs come between two tries, which spoils the ports for good.
        record_property("failed first", facts["reason"])
        facts = one.ping(other)
    assert (facts["path"], facts["reason"]) == ("direct", None)
    assert facts["strategy"] in expected(caller, callee)


def test_neighboursMeetOnTheirNetwork(world: World) -> None:
    """
    Two peers on one LAN need no way around.
    """
    one, other = world.neighbours()
    facts = one.ping(other)
    assert (facts["path"], facts["strategy"]) == ("direct", "lan")
    assert facts["rtt"] < DELAY


@pytest.mark.parametrize(
    ("caller", "callee"),
    [pair for pair in combinations_with_replacement(KINDS, 2) if isDirect(*pair)],
)
def test_theServerCarriesNothing(world: World, caller: str, callee: str) -> None:
    """
    What the peers send each other does not touch the server's link.
    """
    fetched, atServer = world.fetchedPastServer(world.pair(caller, callee))
    assert fetched == SIZE
    assert atServer < OVERHEAD


def test_theServerCarriesNothingBetweenNeighbours(world: World) -> None:
    fetched, atServer = world.fetchedPastServer(world.neighbours())
    assert fetched == SIZE
    assert atServer < OVERHEAD


@attrs.frozen
class Failure:
    """
    What a person sees who asks for the impossible.
    """

    done: CompletedProcess[str]
    seconds: float

    @property
    def facts(self) -> dict[str, Any]:
        """
        What stands on standard output.
        """
        facts: dict[str, Any] = json.loads(self.done.stdout)
        return facts


@pytest.fixture(scope="module")
def failures(world: World) -> dict[tuple[str, str], Failure]:
    """
    All that cannot be done.
    """

    def tried(pair: tuple[str, str]) -> Failure:
        caller, callee = world.pair(*pair)
        began = time.monotonic()
        done = caller.command("ping", callee.name, "--json", check=False)
        return Failure(done, time.monotonic() - began)

    return {pair: tried(pair) for pair in HOPELESS}


@pytest.mark.parametrize("pair", HOPELESS, ids="-".join)
def test_noPath(failures: dict[tuple[str, str], Failure], pair: tuple[str, str]) -> None:
    """
    Where no strategy can cross, the exit status says so.
    """
    failure = failures[pair]
    assert failure.done.returncode == 1
    assert failure.facts["path"] is None


@pytest.mark.parametrize("pair", HOPELESS, ids="-".join)
def test_noPathIsToldAtOnce(
    failures: dict[tuple[str, str], Failure], pair: tuple[str, str]
) -> None:
    """
    Nobody waits for what cannot come.
    """
    assert failures[pair].seconds < PATIENCE


@pytest.mark.parametrize("pair", HOPELESS, ids="-".join)
def test_noPathIsExplained(failures: dict[tuple[str, str], Failure], pair: tuple[str, str]) -> None:
    """
    The reason says what is in the way and what would help, in one line for the person.
    """
    failure = failures[pair]
    reason = failure.facts["reason"]
    assert "both NATs are symmetric" in reason
    assert "a leased port" in reason
    assert (failure.facts["plan"], failure.facts["attempts"]) == ([], [])
    assert failure.done.stderr == f"punchd: {reason}\n"
