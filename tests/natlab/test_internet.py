"""
The in-memory internet, held against the kernel lab: real peers, all of punchd's strategies, and a
server with two addresses. With C{PUNCHD_ALL_PAIRS=1}, for every pair of kinds.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from itertools import product
from typing import Any, Final

import pytest

from punchd.plugin import loadStrategies, packageOf, strategyMakers
from punchd.strategies.planning import preferred
from punchd.testing.deployment import Deployment, PeerProcess
from punchd.testing.internet import Internet
from punchd.testing.internet.differences import PAIRS
from punchd.testing.natlab import KINDS, NatLab

DELAY: Final = 0.01

#: Seconds within which a peer knows its NAT.
PATIENCE: Final = 30.0

SAMPLE: Final = [
    ("public", "random"),
    ("full-cone", "by-address"),
    ("icmp", "reset"),
    ("firewall", "carrier"),
    ("shifted", "restricted"),
    ("port-restricted", "counting"),
    ("random", "port-restricted"),
    ("random", "by-address"),
]

CHOSEN: Final = list(product(KINDS, repeat=2)) if os.environ.get("PUNCHD_ALL_PAIRS") else SAMPLE

#: A guess may hit the very port that another strategy is dialling, or come too late for its turn.
GUESSING: Final = {"predicted", "birthday"}


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    with NatLab(DELAY) as lab:
        server = lab.addPublic("server", addresses=2)
        options = ("--assist", "tcp:7762", "--assist", f"tcp:7763:interface={server.addresses[1]}")
        with Deployment(server, options) as deployment:
            for name in sorted({f"{one}.caller" for one, _ in CHOSEN}):
                deployment.addPeer(lab.addHost(name, name.partition(".")[0]))
            for name in sorted({f"{other}.callee" for _, other in CHOSEN}):
                deployment.addPeer(lab.addHost(name, name.partition(".")[0]))
            deployment.acquaint()
            deployment.start()
            for peer in deployment.peers.values():
                awaitDiscovery(peer)
            yield deployment


def awaitDiscovery(peer: PeerProcess) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        told = peer.command("nat", "--json", check=False).stdout
        if told and json.loads(told)["complete"]:
            return
        time.sleep(0.3)
    raise AssertionError(f"{peer.name} does not know its NAT after {PATIENCE} s")


def inMemory(caller: str, callee: str) -> Any:
    loaded = loadStrategies([one for one in strategyMakers() if packageOf(one) == "punchd"])
    internet = Internet(seed=1, delay=DELAY, serverAddresses=2)
    one, other = internet.addHost("alice", caller), internet.addHost("bob", callee)
    return internet.introduce(one, other, [loaded[name] for name in preferred(list(loaded))])


@pytest.mark.parametrize(("caller", "callee"), CHOSEN)
def test_whatHappensInMemoryHappensInTheKernel(
    deployment: Deployment, caller: str, callee: str
) -> None:
    peers = deployment.peers
    shown = peers[f"{caller}.caller"].command("ping", f"{callee}.callee", "--json", check=False)
    real = json.loads(shown.stdout)
    remembered = inMemory(caller, callee)
    assert real["path"] == remembered.path
    if (caller, callee) not in PAIRS and remembered.strategy not in GUESSING:
        assert real["strategy"] == remembered.strategy
