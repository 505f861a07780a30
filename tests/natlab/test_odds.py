"""
Punches against the odds: from very unequal distances, and while a stranger floods the port.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import attrs
import pytest

from punchd.testing.deployment import Deployment, PeerProcess
from punchd.testing.natlab import Host, NatLab
from tests.natlab import flood

NEAR: Final = 0.005
FAR: Final = 0.06
"""Seconds to the middle of the network."""


@attrs.frozen
class World:
    """
    Peers behind several NATs, and a stranger.
    """

    deployment: Deployment
    stranger: Host

    def peers(self, *names: str) -> tuple[PeerProcess, ...]:
        """
        Some of the peers.
        """
        return tuple(self.deployment.peers[name] for name in names)

    @contextmanager
    def flooding(self, target: PeerProcess, garbage: str) -> Iterator[list[int]]:
        """
        The stranger connects to the target's mapped port, as often as it can.

        @return: will hold the number of its connections.
        """
        address, _, port = target.observed().rpartition(":")
        process: subprocess.Popen[Any] = self.stranger.popen(
            [sys.executable, "-IS", flood.__file__, address, port, garbage],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        connected: list[int] = []
        assert process.stdout is not None
        process.stdout.readline()
        yield connected
        connected.append(int(process.communicate()[0]))


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with NatLab(delay=0.01) as lab, Deployment(lab.addPublic("server")) as deployment:
        for name, kind, delay in (
            ("full-cone", "full-cone", None),
            ("random", "random", None),
            ("reset.near", "reset", NEAR),
            ("reset.far", "reset", FAR),
            ("icmp.near", "icmp", NEAR),
            ("icmp.far", "icmp", FAR),
        ):
            deployment.addPeer(lab.addHost(name, kind, delay=delay))
        deployment.acquaint()
        deployment.start()
        yield World(deployment, lab.addPublic("stranger"))


@pytest.mark.parametrize("garbage", ["GET / HTTP/1.0\r\n\r\n", "punchd?" * 20])
def test_aStrangerNeitherWinsNorStopsAnything(world: World, garbage: str) -> None:
    """
    Somebody floods the port of a full cone while a peer behind a random NAT, whom only a listener
    can take, connects to it.
    """
    caller, callee = world.peers("random", "full-cone")
    with world.flooding(callee, garbage) as connected:
        paths = [caller.ping(callee)["path"] for _ in range(3)]
    assert paths == ["direct"] * 3
    assert connected[0] > 0, "the stranger was never let in, so nothing was tested"


@pytest.mark.parametrize("kind", ["reset", "icmp"])
def test_unequalDistances(world: World, kind: str) -> None:
    """
    NATs that answer SYNs too early with a reset, or with an ICMP message, one of them twelve times
    as far away as the other: nine times out of ten there is a connection.
    """
    near, far = world.peers(f"{kind}.near", f"{kind}.far")
    callers = [(near, far), (far, near)] * 5
    facts = [caller.ping(callee) for caller, callee in callers]
    found = [(each["strategy"], each["seconds"], each["reason"]) for each in facts]
    assert sum(each["path"] == "direct" for each in facts) >= 9, found
