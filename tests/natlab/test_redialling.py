"""
Punches from the same two ports, one soon after the other: what the first leaves behind in the
kernels and in the NATs must not spoil the second.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from typing import Any, Final

import pytest

from punchd.testing.deployment import Deployment, PeerProcess
from punchd.testing.natlab import NatLab

pytestmark = pytest.mark.waiting

PAIRS: Final = [
    ("port-restricted", "port-restricted"),
    ("reset", "reset"),
    ("icmp", "icmp"),
    ("icmp", "reset"),
]

SOON: Final = 1.0
"""Seconds in which who punches again has a path."""


@contextmanager
def deafTo(one: PeerProcess, other: PeerProcess) -> Iterator[None]:
    """
    Nothing from C{other} gets to the NAT of C{one}, as long as this lasts.
    """
    router = one.host.router
    assert router is not None
    rules = f"""table ip deaf {{
        chain prerouting {{
            type filter hook prerouting priority raw;
            ip saddr {other.host.outside} drop
        }}
    }}"""
    router.run(["nft", "-f", "-"], input=rules)
    try:
        yield
    finally:
        router.run(["nft", "delete", "table", "ip", "deaf"])


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    with NatLab(delay=0.01) as lab, Deployment(lab.addPublic("server")) as deployment:
        for number, kind in enumerate(chain(*PAIRS)):
            # No other one shall help out.
            options = ["--strategies", "simultaneous"]
            deployment.addPeer(lab.addHost(f"peer{number}", kind), options=options)
        deployment.acquaint()
        deployment.start()
        yield deployment


@pytest.fixture(scope="module")
def facts(deployment: Deployment) -> list[list[dict[str, Any]]]:
    """
    For each of the pairs, what came of three punches: one that gets half through, and then one from
    each side.
    """

    def punch(number: int) -> list[dict[str, Any]]:
        one, other = (deployment.peers[f"peer{2 * number + n}"] for n in range(2))
        with deafTo(other, one):
            first = one.ping(other)
        return [first, one.ping(other), other.ping(one)]

    with ThreadPoolExecutor(len(PAIRS)) as pool:
        return list(pool.map(punch, range(len(PAIRS))))


@pytest.mark.parametrize("pair", range(len(PAIRS)), ids=["-".join(pair) for pair in PAIRS])
def test_afterAPunchThatFailedTheNextOneConnectsAtOnce(
    facts: list[list[dict[str, Any]]], pair: int
) -> None:
    failed, *others = facts[pair]
    assert failed["path"] is None
    assert [each["path"] for each in others] == ["direct"] * 2, others
    assert max(each["seconds"]["elected"] for each in others) < SOON
