"""
Punches from the same two ports, one soon after the other: what the first leaves behind in the
kernels and in the NATs must not spoil the second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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

ROUNDS: Final = {("icmp", "icmp"): 2, ("icmp", "reset"): 2}
"""
Where a SYN that comes between two tries spoils the ports for good, as a few do on a busy machine,
one round may fail.
"""


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


Round = list[dict[str, Any]]
"""What came of three punches: one that gets half through, and then one from each side."""


def isGood(punches: Round) -> bool:
    return [each["path"] for each in punches] == [None, "direct", "direct"]


@pytest.fixture(scope="module")
def facts(deployment: Deployment) -> list[list[Round]]:
    """
    For each of the pairs, rounds until one has gone well, or there were enough.
    """

    def punch(number: int) -> list[Round]:
        one, other = (deployment.peers[f"peer{2 * number + n}"] for n in range(2))
        rounds: list[Round] = []
        while len(rounds) < ROUNDS.get(PAIRS[number], 1) and not (rounds and isGood(rounds[-1])):
            with deafTo(other, one):
                first = one.ping(other)
            rounds.append([first, one.ping(other), other.ping(one)])
        return rounds

    with ThreadPoolExecutor(len(PAIRS)) as pool:
        return list(pool.map(punch, range(len(PAIRS))))


@pytest.mark.parametrize("pair", range(len(PAIRS)), ids=["-".join(pair) for pair in PAIRS])
def test_afterAPunchThatFailedTheNextOneConnectsAtOnce(
    facts: list[list[Round]], pair: int, record_property: Callable[[str, object], None]
) -> None:
    *failed, last = facts[pair]
    record_property("failed rounds", len(failed))
    assert isGood(last), facts[pair]
    assert max(each["seconds"]["elected"] for each in last[1:]) < SOON
