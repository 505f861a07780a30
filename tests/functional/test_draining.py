"""
Tests for the end of real C{punchd-peer} processes, while streams run.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_twisted
from attrs import define
from pytest_twisted import ensureDeferred
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError

from tests.functional.clients import Wire
from tests.functional.peers import Echo, Peer, Summing, dialUNIX, portOf, runPunchd, serve, unused
from tests.functional.processes import PATIENCE, Server, sleep

#: Bytes, more than fit between two processes.
LARGE = 1_000_000


@define
class Neighbours:
    """
    Alice, who reaches services of Bob's.
    """

    folder: Path
    alice: Peer
    bob: Peer

    async def dial(self, service: str = "echo") -> Wire:
        return await dialUNIX(self.folder / service)

    async def echoes(self, wire: Wire, text: bytes) -> None:
        had = len(wire.received)
        wire.transport.write(text)
        assert (await wire.has(had + len(text)))[had:] == text

    async def says(self, peer: Peer, pattern: str) -> None:
        for _ in range(int(PATIENCE / 0.01)):
            if re.search(pattern, peer.log):
                return
            await sleep(0.01)
        raise AssertionError(f"{pattern} is not in\n{peer.log}")

    async def drains(self, peer: Peer) -> float:
        """
        Let it be stopped.

        @return: when.
        """
        began = time.monotonic()
        peer.process.signal("TERM")
        await self.says(peer, "Received SIGTERM")
        return began


@pytest_twisted.async_yield_fixture
async def neighbours(tmp_path: Path) -> AsyncIterator[Neighbours]:
    server = Server(tmp_path / "server")
    join = await server.start()
    services = {"echo": serve(Echo), "sum": serve(Summing)}
    alice, bob = (
        Peer(name, tmp_path / name, [f"--server={join}", "--drain=20"]) for name in ("alice", "bob")
    )
    alice.trust(bob)
    bob.trust(alice)
    for name, port in services.items():
        alice.options.append(f"--forward=unix:{tmp_path / name}=bob/{name}")
        bob.options.append(f"--expose={name}=tcp:127.0.0.1:{portOf(port)}")
    await bob.start()
    await alice.start()
    here = Neighbours(tmp_path, alice, bob)
    yield here
    for peer in (alice, bob):
        await peer.stop("KILL")
    await server.stop()
    ports: list[Any] = list(services.values())
    await unused(ports)
    for port in ports:
        await port.stopListening()
    for peer in (alice, bob):
        assert "Traceback" not in peer.log, peer.log


@ensureDeferred
async def test_whoServesFinishesWhatRuns(neighbours: Neighbours) -> None:
    wire = await neighbours.dial()
    await neighbours.echoes(wire, b"before")
    began = await neighbours.drains(neighbours.bob)
    await neighbours.echoes(wire, b"after")
    # For that time, it can be asked how it goes.
    status = await neighbours.bob.status()
    assert status is not None
    assert status["links"]["alice"]["streams"] == 1
    # Somebody new is told why not, at once.
    late = await neighbours.dial()
    assert await late.ended() == b""
    await neighbours.says(neighbours.alice, "forward to bob/echo: .*the peer is being stopped")
    await neighbours.echoes(wire, b"still")
    wire.transport.loseConnection()
    assert await neighbours.bob.process.ended() == -15
    assert time.monotonic() - began < 10


@ensureDeferred
async def test_whoForwardsFinishesWhatRuns(neighbours: Neighbours) -> None:
    wire = await neighbours.dial()
    await neighbours.echoes(wire, b"before")
    began = await neighbours.drains(neighbours.alice)
    await neighbours.echoes(wire, b"after")
    try:
        late = await neighbours.dial()
    except ConnectError:
        pass
    else:
        raise AssertionError(f"{late} was let in")
    wire.transport.loseConnection()
    assert await neighbours.alice.process.ended() == -15
    assert time.monotonic() - began < 10


class Slow(Wire):
    """
    Stops reading when only so many bytes are left.
    """

    def __init__(self, left: int) -> None:
        super().__init__()
        self._left: int | None = left

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        if self._left is not None and len(self.received) >= LARGE - self._left:
            self._left = None
            self.transport.pauseProducing()


@ensureDeferred
async def test_whoReadsSlowlyGetsEveryByte(neighbours: Neighbours) -> None:
    """
    When a stream is over, the last of it waits in the peer for who reads it; some more is in the
    kernel, which would deliver it without a peer.
    """
    from twisted.internet import reactor

    # Of what is left then, some three quarters are in the kernel.
    wire = Slow(280_000)
    service = UNIXClientEndpoint(reactor, str(neighbours.folder / "sum"))
    await connectProtocol(service, wire)
    wire.transport.write(bytes(LARGE))
    # So it is the answer's last byte that ends the stream, and not its reader.
    wire.transport.loseWriteConnection()
    await wire.has(LARGE - 280_000)
    await neighbours.drains(neighbours.alice)
    await sleep(1.0)
    wire.transport.resumeProducing()
    assert len(await wire.ended()) == len(b"%d:" % LARGE) + LARGE
    assert await neighbours.alice.process.ended() == -15


@ensureDeferred
async def test_aStreamOfACommandFinishesToo(neighbours: Neighbours) -> None:
    command = runPunchd("connect", f"--state={neighbours.alice.state}", "bob/echo")
    command.write(b"before\n")
    await command.said("before\n")
    await neighbours.drains(neighbours.alice)
    command.write(b"after\n")
    await command.said("after\n")
    late = runPunchd("connect", f"--state={neighbours.alice.state}", "bob/echo")
    assert await late.ended() == 1
    assert "the peer is being stopped" in late.err
    command.closeInput()
    assert await command.ended() == 0
    assert await neighbours.alice.process.ended() == -15


@ensureDeferred
async def test_whenTimeIsUpTheOtherEndKnowsAtOnce(neighbours: Neighbours) -> None:
    await neighbours.bob.stop()
    await neighbours.bob.start("--drain=1")
    wire = await neighbours.dial()
    await neighbours.echoes(wire, b"before")
    began = await neighbours.drains(neighbours.bob)
    await wire.ended()
    took = time.monotonic() - began
    assert 1 <= took < 3, took
    assert await neighbours.bob.process.ended() == -15
    status = await neighbours.alice.status()
    assert status is not None
    # It does not wait for Bob to come back, as it would for one that has vanished.
    assert status["links"]["bob"]["streams"] == 0
    assert status["links"]["bob"]["path"] is None


@ensureDeferred
async def test_aSecondSignalEndsItAtOnce(neighbours: Neighbours) -> None:
    for signal, number in (("TERM", 15), ("INT", 15)):
        wire = await neighbours.dial()
        await neighbours.echoes(wire, b"before")
        await neighbours.drains(neighbours.bob)
        await neighbours.echoes(wire, b"after")
        began = time.monotonic()
        neighbours.bob.process.signal(signal)
        assert await neighbours.bob.process.ended() == -number
        await wire.ended()
        assert time.monotonic() - began < 3
        assert "ends at once" in neighbours.bob.process.out
        # Nobody holds on to the link to the one before.
        await neighbours.bob.start()


@ensureDeferred
async def test_whatIsIdleIsNotWaitedFor(neighbours: Neighbours) -> None:
    wire = await neighbours.dial()
    await neighbours.echoes(wire, b"before")
    wire.transport.loseConnection()
    await neighbours.alice.awaitStatus(lambda status: status["links"]["bob"]["streams"] == 0)
    began = await neighbours.drains(neighbours.bob)
    assert await neighbours.bob.process.ended() == -15
    assert time.monotonic() - began < 3
