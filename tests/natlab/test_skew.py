"""
NATs that answer SYNs too early, peers at unequal distances, and jitter.

Run with C{PUNCHD_LAB_RUNS=40} for more than a sample; the figures stand in the report.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from punchd.testing.deployment import Deployment, PeerProcess
from punchd.testing.natlab import NatLab

RUNS: Final = int(os.environ.get("PUNCHD_LAB_RUNS", "6"))

NEAR: Final = 0.005
FAR: Final = 0.12
"""Seconds from the peers to the server, one way."""

JITTER: Final = 0.01


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    with (
        NatLab(jitter=JITTER) as lab,
        Deployment(lab.addPublic("server", delay=0.0)) as deployment,
    ):
        for kind in ("reset", "icmp"):
            for place, delay in (("near", NEAR), ("far", FAR)):
                deployment.addPeer(lab.addHost(f"{kind}.{place}", kind, delay=delay))
        deployment.acquaint()
        deployment.start()
        yield deployment


def sockets(facts: dict[str, Any]) -> int:
    """
    How many sockets the caller's winning strategy dialled.
    """
    return sum(
        one["way"] == "dialled"
        for attempt in facts["attempts"]
        if attempt["strategy"] == facts["strategy"]
        for one in attempt["tries"]
    )


def pinged(one: PeerProcess, other: PeerProcess) -> list[dict[str, Any]]:
    facts = []
    for run in range(RUNS):
        caller, callee = (one, other) if run % 2 else (other, one)
        facts.append(caller.ping(callee))
    return facts


@pytest.mark.parametrize(
    ("near", "far"), [("reset", "reset"), ("icmp", "icmp"), ("reset", "icmp"), ("icmp", "reset")]
)
def test_unequalDistancesAndJitter(
    deployment: Deployment, near: str, far: str, record_property: Callable[[str, object], None]
) -> None:
    facts = pinged(deployment.peers[f"{near}.near"], deployment.peers[f"{far}.far"])
    found = [(each["strategy"], each["seconds"], each["reason"]) for each in facts]
    direct = [each for each in facts if each["path"] == "direct"]
    tries = [sockets(each) for each in direct]
    record_property("direct", f"{len(direct)} of {len(facts)}; sockets {sorted(tries)}")
    assert len(direct) >= 0.95 * len(facts), found
    assert statistics.median(tries) <= 2
