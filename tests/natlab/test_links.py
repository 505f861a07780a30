"""
Links that outlive their paths: the relay, the direct path, the server, and the address.

With C{PUNCHD_LAB_KILLS=200}, that many paths are killed at random moments instead of a few.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Final

import attrs
import pytest

from punchd.testing.daemons import program
from punchd.testing.deployment import Deployment, PeerProcess
from punchd.testing.natlab import NatLab
from tests.natlab.source import Source, Ticks

pytestmark = pytest.mark.natlab

DELAY: Final = 0.02
"""Seconds between two sites, one way."""

CONTENT: Final = random.Random(4).randbytes(8 * 1000 * 1000)

NOTICED: Final = 3.0
"""Seconds after which a link runs over the relay when its direct path has died."""

PATIENCE: Final = 60.0

TICK: Final = 0.005
"""Seconds from one line to the next."""

STALL: Final = 0.05
"""Seconds beyond a round trip for which a stream may stand still when its link moves."""

KILLS: Final = int(os.environ.get("PUNCHD_LAB_KILLS", "8"))

SURVIVAL: Final = 4
"""Seconds for which a link of the peers here that give up soon lives without a path."""


@attrs.frozen
class World:
    """
    Pairs of peers, and a service of each that gives the same content.
    """

    lab: NatLab
    deployment: Deployment
    source: Source

    def pair(self, kind: str) -> tuple[PeerProcess, PeerProcess]:
        """
        Who calls, and who is called.
        """
        peers = self.deployment.peers
        return peers[f"{kind}.one"], peers[f"{kind}.two"]

    @contextmanager
    def halfway(self, kind: str) -> Iterator[Future[bytes]]:
        """
        A transfer of which one half is there, and which goes on afterwards.
        """
        one, two = self.pair(kind)
        for peer in (one, two):
            peer.awaitConnected()
        self.source.goOn.clear()
        wanted = one.linked(two).get("bytesIn", 0) + len(CONTENT) // 2
        with ThreadPoolExecutor(1) as pool:
            try:
                fetching = pool.submit(one.fetch, two, "source", PATIENCE)
                self.until(one, two, lambda link: link.get("bytesIn", 0) == wanted)
                yield fetching
            finally:
                self.source.goOn.set()

    def until(
        self, one: PeerProcess, two: PeerProcess, isSo: Callable[[dict[str, Any]], bool]
    ) -> float:
        """
        Wait until something is so of the link that one has to the other.

        @return: how long it took, in seconds.
        """
        began = time.monotonic()
        one.waitFor(lambda: isSo(one.linked(two)), "as it should be", PATIENCE)
        return time.monotonic() - began


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("links")
    with ExitStack() as stack:
        lab = stack.enter_context(NatLab(DELAY))
        source = stack.enter_context(Source(folder / "source", CONTENT))
        ticks = stack.enter_context(Ticks(folder / "ticks", TICK))
        server = lab.addPublic("server", addresses=2)
        deployment = stack.enter_context(Deployment(server, relay=True))
        for kind, options in (
            ("port-restricted", ()),
            ("random", ()),
            ("reset", ("--survive", str(SURVIVAL))),
            ("by-address", ("--no-relay",)),
        ):
            for name in ("one", "two"):
                host = lab.addHost(f"{kind}.{name}", kind)
                exposures = {"source": source.endpoint, "ticks": ticks.endpoint}
                deployment.addPeer(host, exposures=exposures, options=options)
        deployment.acquaint()
        deployment.start()
        yield World(lab, deployment, source)


def isDirect(link: dict[str, Any]) -> bool:
    return bool(link.get("path") == "direct")


def isRelayed(link: dict[str, Any]) -> bool:
    return bool(link.get("path") == "relayed")


@contextmanager
def blocked(one: PeerProcess, two: PeerProcess) -> Iterator[None]:
    """
    Nothing gets from one to the other, as long as this lasts; the server is not concerned.
    """
    router, other = one.host.router, two.host.router
    assert router is not None
    assert other is not None
    outside = other.outermost.outside
    rules = f"""table ip blocked {{
        chain forward {{
            type filter hook forward priority -10;
            ip saddr {outside} drop
            ip daddr {outside} drop
        }}
    }}"""
    router.run(["nft", "-f", "-"], input=rules)
    try:
        yield
    finally:
        router.run(["nft", "delete", "table", "ip", "blocked"])


def test_whereThereIsADirectPathTheLinkMovesToIt(world: World) -> None:
    one, two = world.pair("port-restricted")
    assert one.fetch(two, "source") == CONTENT
    world.until(one, two, isDirect)


def test_whereThereIsNoneTheRelayCarriesIt(world: World) -> None:
    one, two = world.pair("random")
    began = time.monotonic()
    assert one.fetch(two, "source") == CONTENT
    facts = one.ping(two)
    assert facts["path"] == "relayed"
    assert "symmetric" in facts["reason"]
    # Nobody has waited for a punch that cannot succeed.
    assert time.monotonic() - began < 8


def test_whoTakesNoRelayedPathHasNone(world: World) -> None:
    one, two = world.pair("by-address")
    facts = one.ping(two)
    assert facts["path"] is None
    assert "symmetric" in facts["reason"]


@pytest.mark.parametrize("kind", ["port-restricted", "random"])
def test_aTransferOutlivesTheServer(world: World, kind: str) -> None:
    one, two = world.pair(kind)
    with world.halfway(kind) as fetching:
        world.deployment.server.kill()
        if kind == "port-restricted":
            world.source.goOn.set()
            assert fetching.result(PATIENCE) == CONTENT
        world.deployment.server.start()
        world.source.goOn.set()
        assert fetching.result(PATIENCE) == CONTENT
    for peer in (one, two):
        peer.awaitConnected()


@pytest.mark.timed
def test_whenTheDirectPathDiesTheRelayTakesOver(world: World) -> None:
    one, two = world.pair("port-restricted")
    one.ping(two)
    with world.halfway("port-restricted") as fetching, blocked(one, two):
        began = time.monotonic()
        world.source.goOn.set()
        world.until(one, two, isRelayed)
        assert time.monotonic() - began < NOTICED + 1
        assert fetching.result(PATIENCE) == CONTENT
    # And back again.
    world.until(one, two, isDirect)


@pytest.mark.timed
def test_nothingStallsWhenTheLinkMoves(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    """
    From the relay to the direct path, a round trip and a little more at most.
    """
    one, two = world.pair("port-restricted")
    with blocked(one, two):
        assert isRelayed(one.ping(two))
        argv = [str(program("punchd")), "connect", "--state", str(one.state), f"{two.name}/ticks"]
        process = one.host.popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        arrivals: list[tuple[float, int]] = []
        reading = threading.Thread(target=_readTicks, args=(process.stdout, arrivals))
        reading.start()
    world.until(one, two, isDirect)
    time.sleep(1)
    process.kill()
    reading.join()
    numbers = [number for _, number in arrivals]
    assert numbers == list(range(len(numbers)))
    gap = max(later - sooner for (sooner, _), (later, _) in itertools.pairwise(arrivals))
    record_property("gap", f"{gap * 1000:.0f} ms of {2000 * DELAY:.0f} ms round trip")
    assert gap <= 2 * DELAY + STALL + TICK


def _readTicks(stream: IO[bytes], arrivals: list[tuple[float, int]]) -> None:
    while len(line := stream.readline()) > 1:
        arrivals.append((time.monotonic(), int(line)))


def test_aTransferOutlivesAnotherAddress(world: World) -> None:
    one, two = world.pair("port-restricted")
    for peer in (one, two):
        with world.halfway("port-restricted") as fetching:
            world.lab.renumber(peer.host)
            world.source.goOn.set()
            assert fetching.result(PATIENCE) == CONTENT


def test_aTransferOutlivesSleep(world: World) -> None:
    one, _ = world.pair("port-restricted")
    with world.halfway("port-restricted") as fetching:
        world.lab.cutLink(one.host)
        time.sleep(6)
        world.lab.restoreLink(one.host)
        world.source.goOn.set()
        assert fetching.result(PATIENCE) == CONTENT


def test_aLinkThatCannotBeSavedEndsItsStreamsWithAReset(world: World) -> None:
    one, two = world.pair("reset")
    with world.halfway("reset") as fetching:
        world.lab.cutLink(two.host)
        try:
            world.until(one, two, lambda link: link.get("path") is None)
            with pytest.raises(Exception, match="the stream broke"):
                fetching.result(PATIENCE)
        finally:
            world.lab.restoreLink(two.host)


def test_nothingIsLostWhenPathsAreKilled(world: World) -> None:
    """
    At random moments, under load.
    """
    one, two = world.pair("port-restricted")
    chance, expected = random.Random(7), hashlib.sha256(CONTENT).digest()
    killed = fetched = 0
    with ThreadPoolExecutor(2) as pool:
        while killed < KILLS:
            fetching = [pool.submit(one.fetch, two, "source", PATIENCE) for _ in range(2)]
            while not all(each.done() for each in fetching) and killed < KILLS:
                time.sleep(chance.uniform(0.05, 0.6))
                victim = chance.choice([one, two])
                other = two if victim is one else one
                outside = other.host.router.outermost.outside  # type: ignore[union-attr]
                server = world.deployment.server.host.address
                for where in (["dst", outside], ["dst", server, "dport", "7764"]):
                    victim.host.run(["ss", "-t", "-K", *where])
                killed += 1
            for each in fetching:
                assert hashlib.sha256(each.result(PATIENCE)).digest() == expected
                fetched += 1
    assert fetched >= 2
