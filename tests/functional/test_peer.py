"""
Tests for C{twistd punchd-peer}: a server and two peers as processes on the loopback interface.
"""

from __future__ import annotations

import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import define
from pytest_twisted import ensureDeferred

from tests.functional.clients import Wire, dial
from tests.functional.peers import (
    Echo,
    Peer,
    Summing,
    dialUNIX,
    portOf,
    runPunchd,
    runShell,
    serve,
    unused,
)
from tests.functional.processes import PATIENCE, Server, runTwistd, sleep


@define
class Neighbours:
    """
    Alice, who forwards and connects; Bob, who exposes; Carol, whom only Alice trusts.
    """

    folder: Path
    server: Server
    join: str
    alice: Peer
    bob: Peer
    listening: list[Any]

    async def forward(self, service: str, data: bytes = b"") -> Wire:
        return await dialUNIX(self.folder / service, data)


async def begin(folder: Path) -> Neighbours:
    server = Server(folder / "server")
    join = str(await server.start())
    listening = [serve(Summing), serve(Echo)]
    free = serve(Echo)
    closed = portOf(free)
    await free.stopListening()  # type: ignore[misc]
    alice = Peer("alice", folder / "alice", [f"--server={join}"])
    bob = Peer("bob", folder / "bob", [f"--server={join}"])
    carol = Peer("carol", folder / "carol")
    alice.trust(bob, carol)
    bob.trust(alice)
    bob.options += [
        f"--expose=sum=tcp:127.0.0.1:{portOf(listening[0])}",
        f"--expose=echo=tcp:127.0.0.1:{portOf(listening[1])}",
        f"--expose=secret=tcp:127.0.0.1:{portOf(listening[1])}",
        f"--expose=dead=tcp:127.0.0.1:{closed}",
        "--allow=alice=sum,echo,dead",
    ]
    for service in ("sum", "echo", "dead", "none"):
        alice.options.append(f"--forward=unix:{folder / service}=bob/{service}")
    alice.options.append("--forward=0=bob/echo")
    await bob.start()
    await alice.start()
    return Neighbours(folder, server, join, alice, bob, listening)


@pytest_twisted.async_yield_fixture(scope="module")
async def neighbours(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Neighbours]:
    here = await begin(tmp_path_factory.mktemp("n"))
    yield here
    for peer in (here.alice, here.bob):
        await peer.stop()
    await here.server.stop()
    for listening in here.listening:
        await listening.stopListening()
    for peer in (here.alice, here.bob):
        assert "Traceback" not in peer.log, peer.log


@pytest_twisted.async_yield_fixture
async def busyNeighbours(neighbours: Neighbours) -> AsyncIterator[Neighbours]:
    """
    For tests after which a connection to a service may still be closing.
    """
    yield neighbours
    await unused(neighbours.listening)


class TestForwarding:
    @ensureDeferred
    async def test_bytesGoBothWaysWithHalfClose(self, busyNeighbours: Neighbours) -> None:
        wire = await busyNeighbours.forward("sum", b"question")
        wire.transport.loseWriteConnection()
        assert await wire.ended() == b"8:question"

    @ensureDeferred
    async def test_manyBytesArriveWhole(self, busyNeighbours: Neighbours) -> None:
        data = bytes(range(256)) * 8000
        wire = await busyNeighbours.forward("sum", data)
        wire.transport.loseWriteConnection()
        assert await wire.ended() == b"%d:" % len(data) + data

    @ensureDeferred
    async def test_severalConnectionsAtOnceDoNotMix(self, busyNeighbours: Neighbours) -> None:
        wires = [await busyNeighbours.forward("echo", b"number %d" % one) for one in range(4)]
        for one, wire in enumerate(wires):
            assert await wire.has(8) == b"number %d" % one
            await wire.close()

    @ensureDeferred
    async def test_aPortForwards(self, busyNeighbours: Neighbours) -> None:
        (port,) = re.findall(r"ForwardFactory starting on (\d+)", busyNeighbours.alice.log)
        wire = await dial(int(port), b"hello")
        assert await wire.has(5) == b"hello"
        await wire.close()

    @pytest.mark.parametrize(
        ("service", "reason"),
        [("none", "is not exposed there"), ("dead", "does not answer there")],
    )
    @ensureDeferred
    async def test_withoutServiceTheClientIsDisconnectedAndTheLogSaysWhy(
        self, busyNeighbours: Neighbours, service: str, reason: str
    ) -> None:
        wire = await busyNeighbours.forward(service, b"hello")
        assert await wire.ended() == b""
        # The log comes by another way, and perhaps later.
        for _ in range(int(PATIENCE / 0.01)):
            if re.search(f"forward to bob/{service}: .*{reason}", busyNeighbours.alice.log):
                return
            await sleep(0.01)
        raise AssertionError(busyNeighbours.alice.log)

    @ensureDeferred
    async def test_clientsThatSayNothingOrGoAwayDoNoHarm(self, busyNeighbours: Neighbours) -> None:
        for data in (b"", b"\xff" * 10_000):
            wires = [await busyNeighbours.forward("echo", data) for _ in range(3)]
            for wire in wires:
                await wire.close()
        wire = await busyNeighbours.forward("sum", b"still there?")
        wire.transport.loseWriteConnection()
        assert await wire.ended() == b"12:still there?"


class TestConnecting:
    @ensureDeferred
    async def test_standardInputAndOutputAreTheStream(self, neighbours: Neighbours) -> None:
        running = runPunchd("connect", f"--state={neighbours.alice.state}", "bob/sum")
        running.write(b"question")
        running.closeInput()
        assert await running.ended() == 0
        assert (running.out, running.err) == ("8:question", "")

    @ensureDeferred
    async def test_closedStandardInputIsAnEmptyQuestion(self, neighbours: Neighbours) -> None:
        command = f"punchd connect --state={neighbours.alice.state} bob/sum <&-"
        running = runShell(command)
        assert await running.ended() == 0
        assert running.out == "0:"

    @pytest.mark.parametrize(
        ("target", "reason"),
        [
            ("carol/echo", "carol|does not accept|not connected"),
            ("dave/echo", "no peer is pinned as 'dave'"),
            ("bob/none", "'none' is not exposed there"),
            ("bob/secret", "'secret' is not allowed to this peer"),
            ("bob/dead", "'dead' does not answer there"),
        ],
    )
    @ensureDeferred
    async def test_whatCannotBeReachedIsOneLineAndStatus1(
        self, neighbours: Neighbours, target: str, reason: str
    ) -> None:
        running = await neighbours.alice.punchd("connect", target)
        assert (running.status, running.out) == (1, "")
        assert running.err.count("\n") == 1
        assert re.search(reason, running.err)

    @pytest.mark.parametrize("target", ["bob", "bob/", "/echo", ""])
    @ensureDeferred
    async def test_wrongTargetsAreWrongUsage(self, neighbours: Neighbours, target: str) -> None:
        running = await neighbours.alice.punchd("connect", target)
        assert running.status == 2
        assert "PEER/SERVICE" in running.err


class TestTheStart:
    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            (["--server=127.0.0.1"], "say --name NAME"),
            (["--config=/nonexistent.toml"], "cannot read /nonexistent.toml"),
        ],
    )
    @ensureDeferred
    async def test_badOptionsAreOneLineAndStatus2(
        self, tmp_path: Path, options: list[str], reason: str
    ) -> None:
        running = runTwistd("-n", "--pidfile=", "punchd-peer", f"--state={tmp_path}/s", *options)
        assert await running.ended() == 2
        assert reason in running.err
        assert running.err.count("\n") == 1

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            (["--state={tmp}/file/below"], "choose another one with --state"),
            (["--strategies=lan,magic"], "there is no strategy 'magic'"),
            (["--forward={port}=bob/web"], "cannot listen: Address already in use"),
        ],
    )
    @ensureDeferred
    async def test_whatCannotBeDoneIsOneLineAndStatus1(
        self, tmp_path: Path, options: list[str], reason: str
    ) -> None:
        (tmp_path / "file").touch()
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            peer = Peer("alice", tmp_path / "state", ["--server=127.0.0.1:1"])
            running = peer.launch(*(one.format(tmp=tmp_path, port=port) for one in options))
            assert await running.ended() == 1
        assert reason in running.err
        assert running.err.count("\n") == 1

    @ensureDeferred
    async def test_aSecondPeerWithTheSameStateIsRefused(self, neighbours: Neighbours) -> None:
        second = Peer("alice", neighbours.alice.state, [f"--server={neighbours.join}"])
        running = second.launch()
        assert await running.ended() == 1
        assert "another punchd-peer is running with the state folder" in running.err
        assert running.err.count("\n") == 1
        assert await neighbours.alice.status() is not None


@pytest_twisted.async_yield_fixture
async def lonely(tmp_path: Path) -> AsyncIterator[Peer]:
    """
    A peer whose server is not there.
    """
    with socket.socket() as away:
        away.bind(("127.0.0.1", 0))
        peer = Peer("alice", tmp_path / "alice", [f"--server=127.0.0.1:{away.getsockname()[1]}"])
        other = Peer("bob", tmp_path / "bob")
        peer.trust(other)
        yield peer
        await peer.stop()
    assert "Traceback" not in peer.log


class TestServers:
    @ensureDeferred
    async def test_withoutServerThePeerRunsAndSaysWhy(self, lonely: Peer) -> None:
        lonely.launch()
        await lonely.awaitStatus(lambda status: status["servers"][0]["problem"])
        running = await lonely.punchd("connect", "bob/echo")
        assert running.status == 1
        assert re.fullmatch(r"punchd: not connected to any server \(.*refused.*\)\n", running.err)

    @ensureDeferred
    async def test_aServerWithAnotherKeyIsNotUsed(
        self, neighbours: Neighbours, lonely: Peer
    ) -> None:
        where, _, _ = neighbours.join.partition("#")
        lonely.options = [f"--server={where}#{'00' * 32}"]
        lonely.launch()
        status = await lonely.awaitStatus(lambda status: status["servers"][0]["problem"])
        assert "not the expected" in status["servers"][0]["problem"]
        assert status["master"] == "connecting"

    @ensureDeferred
    async def test_aServerWithoutPinMustHaveATrustedCertificate(
        self, neighbours: Neighbours, lonely: Peer
    ) -> None:
        where, _, _ = neighbours.join.partition("#")
        lonely.options = [f"--server={where}"]
        lonely.launch()
        status = await lonely.awaitStatus(lambda status: status["servers"][0]["problem"])
        assert "no trusted root vouches" in status["servers"][0]["problem"]

    @ensureDeferred
    async def test_oneOfSeveralServersIsEnough(self, neighbours: Neighbours, lonely: Peer) -> None:
        lonely.name = "dora"
        await lonely.start(f"--server={neighbours.join}")
        status = await lonely.status()
        assert status is not None
        assert [server["connected"] for server in status["servers"]] == [False, True]

    @ensureDeferred
    async def test_aNameThatIsTakenIsSaid(self, neighbours: Neighbours, lonely: Peer) -> None:
        lonely.name = "bob"
        lonely.options = [f"--server={neighbours.join}"]
        lonely.launch()
        status = await lonely.awaitStatus(lambda status: status["servers"][0]["problem"])
        assert "belongs to another key" in status["servers"][0]["problem"]

    @ensureDeferred
    async def test_whenTheServerComesBackThePeerIsThere(self, tmp_path: Path) -> None:
        server = Server(tmp_path / "server")
        join = await server.start()
        peer = Peer("alice", tmp_path / "alice", [f"--server={join}"])
        await peer.start()
        await server.stop("KILL")
        await peer.awaitMaster("connecting")
        again = Server(tmp_path / "server", (f"--master=tcp:{join.port}:interface=127.0.0.1",))
        await again.start()
        await peer.awaitMaster("connected")
        await peer.stop()
        await again.stop()
        assert "Traceback" not in peer.log


class TestTheControlSocket:
    @ensureDeferred
    async def test_aKilledPeersSocketIsReplaced(self, lonely: Peer) -> None:
        lonely.launch()
        await lonely.awaitMaster("connecting")
        await lonely.stop("KILL")
        assert (lonely.state / "control").exists()
        assert "no punchd-peer is running" in (await lonely.punchd("status")).err
        lonely.launch()
        await lonely.awaitMaster("connecting")

    @ensureDeferred
    async def test_aPeerThatEndedLeavesNoSocket(self, lonely: Peer) -> None:
        lonely.launch()
        await lonely.awaitMaster("connecting")
        await lonely.stop()
        assert not (lonely.state / "control").exists()

    @ensureDeferred
    async def test_onlyTheOwnerMaySpeakToIt(self, neighbours: Neighbours) -> None:
        assert (neighbours.alice.state / "control").stat().st_mode & 0o777 == 0o600

    @pytest.mark.parametrize(
        "data", [b"\xff\xfe\n", b"[" * 4000 + b"\n", b"{}\n", b"x" * 100_000], ids=len
    )
    @ensureDeferred
    async def test_garbageIsAnsweredAndTheConnectionClosed(
        self, neighbours: Neighbours, data: bytes
    ) -> None:
        wire = await dialUNIX(neighbours.alice.state / "control", data)
        assert b'"ok": false' in await wire.ended()
        assert await neighbours.alice.status() is not None

    @ensureDeferred
    async def test_slowAndHalfOpenClientsHoldNobodyUp(self, neighbours: Neighbours) -> None:
        control = neighbours.alice.state / "control"
        silent = [await dialUNIX(control, b'{"comm') for _ in range(20)]
        half = await dialUNIX(control, b'{"comm')
        half.transport.loseWriteConnection()
        await half.ended()
        assert (await neighbours.alice.punchd("status")).status == 0
        for wire in silent:
            await wire.close()
