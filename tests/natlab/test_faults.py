"""
What goes wrong in the world, and what is lost by it: nothing.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

import attrs
import pytest

from punchd.testing.deployment import Deployment, DeploymentError, PeerProcess
from punchd.testing.natlab import NatLab
from tests.natlab.source import Source

pytestmark = pytest.mark.waiting

SIZE: Final = 8_000_000
"""Bytes of a transfer in whose middle things happen."""

NOTICED: Final = 10.0
"""Seconds in which a peer knows that its server is gone without a word."""

BACK: Final = 6.0
"""Seconds in which peers are back after a short absence of the server."""


@attrs.frozen
class World:
    """
    A server, and peers behind several NATs.

    @ivar source: what every peer exposes as C{source}.
    """

    lab: NatLab
    deployment: Deployment
    source: Source

    @property
    def alice(self) -> PeerProcess:
        return self.deployment.peers["alice"]

    @property
    def bob(self) -> PeerProcess:
        return self.deployment.peers["bob"]

    def killBob(self) -> None:
        """
        Kill his peer, and start it anew.
        """
        self.bob.kill()
        self.bob.start()

    @contextmanager
    def halfway(self) -> Iterator[None]:
        """
        Alice fetches everything from Bob; while this runs, she has the first half.
        """
        self.source.goOn.clear()
        before = self.alice.linked(self.bob).get("bytesIn", 0)
        half = len(self.source.content) // 2

        def hasHalf() -> bool:
            return bool(self.alice.linked(self.bob).get("bytesIn", 0) - before >= half)

        with ThreadPoolExecutor(1) as pool:
            fetching = pool.submit(self.alice.fetch, self.bob, "source", timeout=60.0)
            try:
                self.alice.waitFor(hasHalf, "halfway through the transfer", 20.0)
                yield
            finally:
                self.source.goOn.set()
            assert fetching.result() == self.source.content


@pytest.fixture(scope="module")
def built() -> Iterator[World]:
    with NatLab(delay=0.01) as lab, Deployment(lab.addPublic("server")) as deployment:
        content = random.Random(3).randbytes(SIZE)
        with Source(deployment.folder / "source", content) as source:
            for name, kind, delay in (
                ("alice", "port-restricted", None),
                ("bob", "shifted", None),
                ("full-cone", "full-cone", None),
                ("random", "random", None),
                ("reset.near", "reset", 0.005),
                ("reset.far", "reset", 0.06),
                ("icmp.near", "icmp", 0.005),
                ("icmp.far", "icmp", 0.06),
            ):
                host = lab.addHost(name, kind, delay=delay)
                deployment.addPeer(host, exposures={"source": source.endpoint})
            deployment.acquaint()
            yield World(lab, deployment, source)


@pytest.fixture
def world(built: World) -> World:
    """
    Everything is well, whatever the test before has broken.
    """
    built.deployment.start()
    for peer in built.deployment.peers.values():
        peer.awaitReady()
    return built


def test_aTransferOutlivesTheServer(world: World) -> None:
    """
    The server is killed in the middle of a transfer, and not a byte is lost.
    """
    with world.halfway():
        world.deployment.server.kill()
        for peer in (world.alice, world.bob):
            peer.awaitConnected(False)


def test_aTransferOutlivesTheServersRestart(world: World) -> None:
    """
    When the server is back and its peers with it, the connection is still the same.
    """
    with world.halfway():
        world.deployment.server.kill()
        world.deployment.start()
        for peer in (world.alice, world.bob):
            peer.awaitReady()


def test_peersComeBackToARestartedServer(world: World) -> None:
    """
    Nobody has to do anything for that.
    """
    server, peers = world.deployment.server, world.deployment.peers.values()
    server.kill()
    for peer in peers:
        peer.awaitConnected(False)
    server.start()
    server.awaitReady()
    began = time.monotonic()
    for peer in peers:
        peer.awaitConnected()
    assert time.monotonic() - began < BACK


def test_aRestartedServerIntroduces(world: World) -> None:
    """
    The first introduction after a restart works like any other.
    """
    world.deployment.server.kill()
    world.deployment.start()
    for peer in (world.alice, world.bob):
        peer.awaitReady()
    assert world.alice.ping(world.bob)["strategy"] == "simultaneous"


def test_aTransferThatBreaksIsNotTakenForWhole(world: World) -> None:
    """
    The other peer is killed in the middle, and its next process knows nothing of the link: what
    came has not come to its end, and that is said.
    """
    with pytest.raises(DeploymentError, match="the stream broke"), world.halfway():
        world.killBob()


def test_aKilledPeersNameIsFreeAtOnce(world: World) -> None:
    """
    Its next process is called at once, and by the same name.
    """
    world.killBob()
    world.bob.awaitReady()
    assert world.alice.ping(world.bob)["path"] == "direct"


def test_aVanishedPeersNameIsFreeAtOnce(world: World) -> None:
    """
    The same when the server could not see it die: the new connection takes the old one's place.
    """
    world.lab.cutLink(world.bob.host)
    world.bob.kill()
    world.lab.restoreLink(world.bob.host)
    world.bob.start()
    world.bob.awaitReady()
    assert world.alice.ping(world.bob)["path"] == "direct"


def test_aSilentServerIsNoticed(world: World) -> None:
    """
    Peers know within seconds that the way to the server is cut, and come back when it is not.
    """
    peers = world.deployment.peers.values()
    world.lab.cutLink(world.deployment.server.host)
    try:
        began = time.monotonic()
        for peer in peers:
            peer.awaitConnected(False)
        noticed = time.monotonic() - began
    finally:
        world.lab.restoreLink(world.deployment.server.host)
    for peer in peers:
        peer.awaitConnected()
    assert noticed < NOTICED


def test_aTransferDoesNotNeedTheServersLink(world: World) -> None:
    """
    While the way to the server is cut, and the peers have given it up, bytes flow.
    """
    with world.halfway():
        world.lab.cutLink(world.deployment.server.host)
        try:
            world.alice.awaitConnected(False)
        finally:
            world.lab.restoreLink(world.deployment.server.host)
