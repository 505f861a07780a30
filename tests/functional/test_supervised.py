"""
Tests for what real C{twistd} processes tell systemd, and take from it: readiness and its like, a
log for the journal, sockets.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import define, field
from pytest_twisted import ensureDeferred
from twisted.internet.protocol import DatagramProtocol
from twisted.names import dns

from tests.functional.clients import dial
from tests.functional.peers import Echo, Peer, dialUNIX, portOf, serve
from tests.functional.processes import LOOPBACK, PATIENCE, Running, Server, sleep, twistd

#: Nobody listens there: the discard service, at an address of this host's alone.
NOWHERE = f"127.0.0.1:9#{'0' * 64}"


@define(eq=False)
class Notified(DatagramProtocol):
    """
    What systemd hears.
    """

    address: str
    messages: list[str] = field(factory=list)

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.messages += datagram.decode("utf-8").splitlines()

    async def heard(self, isIt: Callable[[str], bool]) -> str:
        """
        The first message that is such.
        """
        for _ in range(int(PATIENCE / 0.01)):
            for message in self.messages:
                if isIt(message):
                    return message
            await sleep(0.01)
        raise AssertionError(self.messages)

    def hears(self, text: str) -> Awaitable[str]:
        return self.heard(text.__eq__)

    def status(self, text: str) -> Awaitable[str]:
        return self.heard(lambda message: message.startswith("STATUS=") and text in message)

    @property
    def environment(self) -> dict[str, str]:
        return {"NOTIFY_SOCKET": self.address}


@pytest_twisted.async_yield_fixture
async def notified(tmp_path: Path) -> AsyncIterator[Notified]:
    from twisted.internet import reactor

    path = str(tmp_path / "notify")
    notified = Notified(path)
    port: Any = reactor.listenUNIXDatagram(path, notified, maxPacketSize=65536)  # type: ignore[attr-defined]
    yield notified
    await port.stopListening()


# Readiness.


@ensureDeferred
async def test_aServerTellsHowItGoes(notified: Notified, tmp_path: Path) -> None:
    server = Server(tmp_path / "server", environment=notified.environment)
    join = await server.start()
    await notified.hears("READY=1")
    line = f"STATUS=peers: 0; relayed paths: 0; join address: {join}"
    assert await notified.status("join address") == line
    peer = Peer("alice", tmp_path / "alice", [f"--server={join}"])
    await peer.start()
    await notified.status("peers: 1;")
    await peer.stop()
    assert await server.stop() == -15
    await notified.hears("STOPPING=1")
    await notified.status("stopping")
    # Nobody is ready twice.
    assert notified.messages.count("READY=1") == 1


@ensureDeferred
async def test_aServerWithoutItsPortsIsNotReady(notified: Notified, tmp_path: Path) -> None:
    taken = serve(Echo)
    server = Server(tmp_path / "server", (f"--relay=tcp:{portOf(taken)}:interface=127.0.0.1",))
    server.environment = notified.environment
    with pytest.raises(AssertionError, match="it ended before"):
        await server.start()
    assert await server.process.ended() == 1
    assert "choose another one with --relay" in server.process.err
    assert notified.messages == []
    await taken.stopListening()  # type: ignore[misc]


@ensureDeferred
async def test_aPeerIsReadyWhenItIsLoggedIn(notified: Notified, tmp_path: Path) -> None:
    server = Server(tmp_path / "server")
    join = await server.start()
    peer = Peer("alice", tmp_path / "alice", [f"--server={join}"])
    peer.environment = notified.environment
    peer.launch()
    await notified.hears("READY=1")
    facts = await peer.status()
    assert facts is not None
    assert facts["master"] == "connected"
    where = f"127.0.0.1:{join.port}"
    await notified.hears(f"STATUS=connected to {where}; links: none")
    await server.stop()
    await notified.status(f"not connected to {where} (")
    await peer.stop()
    await notified.hears("STOPPING=1")
    assert notified.messages.count("READY=1") == 1


@ensureDeferred
async def test_aPeerWithoutAServerIsReadyToo(notified: Notified, tmp_path: Path) -> None:
    """
    It may stay away for long, and the machine starts nevertheless.
    """
    peer = Peer("alice", tmp_path / "alice", [f"--server={NOWHERE}", "--forward=0=bob/ssh"])
    peer.environment = notified.environment
    peer.launch()
    await notified.hears("READY=1")
    assert "STATUS=not connected to 127.0.0.1:9 (" in await notified.status("refused")
    assert (await peer.status() or {})["master"] == "connecting"
    await peer.stop()


@ensureDeferred
async def test_aWatchdogIsShownLife(notified: Notified, tmp_path: Path) -> None:
    server = Server(tmp_path / "server")
    server.environment = {**notified.environment, "WATCHDOG_USEC": "300000"}
    await server.start()
    for _ in range(int(PATIENCE / 0.05)):
        if notified.messages.count("WATCHDOG=1") > 10:
            break
        await sleep(0.05)
    assert notified.messages.count("WATCHDOG=1") > 10
    await server.stop()


@ensureDeferred
async def test_withoutSystemdEverythingIsAsEver(tmp_path: Path) -> None:
    server = Server(tmp_path / "server", environment={"NOTIFY_SOCKET": str(tmp_path / "gone")})
    await server.start()
    await server.process.said("cannot tell")
    assert await server.stop() == -15
    assert server.log.count("cannot tell") == 1


# The log.


def journalled(*arguments: str) -> Running:
    """
    C{twistd}, whose errors go to the journal, as it is told.
    """
    stream = "JOURNAL_STREAM=$(stat -Lc %d:%i /proc/self/fd/2)"
    return Running("/bin/sh", "-c", f'{stream} exec "$@"', "sh", *twistd(), *arguments)


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")


@ensureDeferred
async def test_theLogIsForTheJournalWhereItLeadsThere(tmp_path: Path) -> None:
    peer = journalled(
        "-n",
        "--pidfile=",
        "punchd-peer",
        "--name=alice",
        f"--server={NOWHERE}",
        f"--state={tmp_path}",
    )
    for _ in range(int(PATIENCE / 0.01)):
        if "cannot use the server" in peer.err:
            break
        await sleep(0.01)
    await peer.stop()
    assert "\n<6>alice: cannot use the server at 127.0.0.1:9: " in peer.err
    assert all(line.startswith("<") for line in peer.err.splitlines()), peer.err
    assert peer.out == ""


@ensureDeferred
async def test_aFileThatIsWantedIsWritten(tmp_path: Path) -> None:
    log = tmp_path / "log"
    peer = journalled(
        "-n",
        "--pidfile=",
        f"--logfile={log}",
        "punchd-peer",
        "--name=alice",
        f"--server={NOWHERE}",
        f"--state={tmp_path}",
    )
    for _ in range(int(PATIENCE / 0.01)):
        if log.exists() and "cannot use the server" in log.read_text():
            break
        await sleep(0.01)
    await peer.stop()
    assert "alice: cannot use the server at 127.0.0.1:9: " in log.read_text()
    assert peer.err == ""


@ensureDeferred
async def test_whatPreventsTheStartIsAnErrorInTheJournal(tmp_path: Path) -> None:
    peer = journalled("-n", "--pidfile=", "punchd-peer", f"--state={tmp_path}")
    assert await peer.ended() == 2
    assert peer.err == "<3>punchd-peer: say --name NAME: what this peer is called\n"


# Sockets.


def passedOn(sockets: dict[str, socket.socket], *arguments: str) -> Running:
    """
    C{twistd} with these sockets by name, as systemd passes them on.
    """
    said = f"LISTEN_PID=$$ LISTEN_FDS={len(sockets)} LISTEN_FDNAMES={':'.join(sockets)}"
    files = {3 + at: one.fileno() for at, one in enumerate(sockets.values())}
    command = (f'{said} exec "$@"', "sh", *twistd(), "-n", "--pidfile=", *arguments)
    return Running("/bin/sh", "-c", *command, files=files)


def bound(kind: socket.SocketKind, family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
    made = socket.socket(family, kind)
    made.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
    if kind == socket.SOCK_STREAM:
        made.listen()
    return made


def question(zone: str) -> bytes:
    message = dns.Message(id=7)
    message.addQuery(zone, dns.SOA)
    return message.toStr()


@ensureDeferred
async def test_aServerTakesItsSocketsFromSystemd(tmp_path: Path) -> None:
    sockets = {
        name: bound(socket.SOCK_STREAM) for name in ("master", "assist", "assist2", "relay", "dns")
    }
    sockets["udp"] = bound(socket.SOCK_DGRAM)
    ports = {name: one.getsockname()[1] for name, one in sockets.items()}
    process = passedOn(
        sockets,
        "punchd-server",
        f"--state={tmp_path / 'server'}",
        "--host=127.0.0.1",
        "--master=systemd:domain=INET:name=master",
        "--assist=systemd:domain=INET:name=assist",
        "--assist=systemd:domain=INET:index=2",
        "--relay=systemd:domain=INET:name=relay",
        "--zone=peers.example.org",
        "--dns=systemd:domain=INET:name=dns",
        "--dns=udp:systemd:domain=INET:name=udp",
    )
    await process.said("starting up")
    join = (tmp_path / "server/join").read_text().strip()
    assert join.startswith(f"127.0.0.1:{ports['master']}#")
    peer = Peer("alice", tmp_path / "alice", [f"--server={join}", "--publish-address"])
    await peer.start()
    asked = question("peers.example.org")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.setblocking(False)
        asking.sendto(asked, ("127.0.0.1", ports["udp"]))
        for _ in range(int(PATIENCE / 0.01)):
            try:
                answer = asking.recv(4096)
                break
            except BlockingIOError:
                await sleep(0.01)
    wire = await dial(ports["dns"], len(asked).to_bytes(2, "big") + asked)
    streamed = await wire.has(len(answer) + 2)
    for packed in (answer, streamed[2:]):
        message = dns.Message()
        message.fromStr(packed)
        assert (message.id, message.rCode, len(message.answers)) == (7, dns.OK, 1)
    await wire.close()
    await peer.stop()
    assert await process.stop() == -15
    # They are still systemd's: who comes now waits for the next start.
    with socket.create_connection(("127.0.0.1", ports["master"])):
        pass
    for one in sockets.values():
        one.close()


@ensureDeferred
async def test_aPeersForwardIsASocketOfSystemds(tmp_path: Path) -> None:
    server = Server(tmp_path / "server")
    join = await server.start()
    echo = serve(Echo)
    alice, bob = (Peer(name, tmp_path / name, [f"--server={join}"]) for name in ("alice", "bob"))
    alice.trust(bob)
    bob.trust(alice)
    await bob.start(f"--expose=echo=tcp:127.0.0.1:{portOf(echo)}")
    path = tmp_path / "echo"
    sockets = {"tcp": bound(socket.SOCK_STREAM), "unix": socket.socket(socket.AF_UNIX)}
    sockets["unix"].bind(str(path))
    sockets["unix"].listen()
    # Somebody is there before the peer is.
    early = await dial(sockets["tcp"].getsockname()[1], b"early")
    process = passedOn(
        sockets,
        "punchd-peer",
        "--name=alice",
        f"--state={alice.state}",
        f"--server={join}",
        "--forward=systemd:domain=INET:name=tcp=bob/echo",
        "--forward=systemd:domain=UNIX:name=unix=bob/echo",
    )
    assert await early.has(5) == b"early"
    late = await dialUNIX(path, b"late")
    assert await late.has(4) == b"late"
    await early.close()
    await late.close()
    assert await process.stop() == -15
    await bob.stop()
    await server.stop()
    await echo.stopListening()  # type: ignore[misc]
    for one in sockets.values():
        one.close()


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("--relay=systemd:domain=INET:name=other", "no such socket was passed on"),
        ("--relay=systemd:domain=INET:index=7", "no such socket was passed on"),
        ("--relay=systemd:domain=INET6:name=tcp", "is of another family: say domain=INET"),
        ("--relay=systemd:domain=NONSENSE:name=tcp", "is no such socket: try systemd:"),
        ("--relay=systemd:domain=INET", "is no such socket: try systemd:"),
        ("--relay=systemd:", "is no such socket: try systemd:"),
        ("--relay=systemd:domain=INET:name=udp", "its unit needs ListenStream="),
        ("--dns=udp:systemd:domain=INET:name=tcp", "its unit needs ListenDatagram="),
        ("--dns=udp:systemd:domain=INET:name=other", "no such socket was passed on"),
        ("--dns=udp:systemd:domain=INET:index=-9", "no such socket was passed on"),
    ],
)
@ensureDeferred
async def test_aSocketThatIsNotThereIsSaidSo(tmp_path: Path, option: str, reason: str) -> None:
    sockets = {"tcp": bound(socket.SOCK_STREAM), "udp": bound(socket.SOCK_DGRAM)}
    process = passedOn(
        sockets,
        "punchd-server",
        f"--state={tmp_path}",
        "--host=127.0.0.1",
        "--zone=a.example",
        f"--master={LOOPBACK}",
        f"--dns={LOOPBACK}",
        f"--assist={LOOPBACK}",
        option,
    )
    assert await process.ended() == 2
    assert process.err.count("\n") == 1
    assert process.err.startswith(f"punchd-server: {option.partition('=')[0]}")
    assert reason in process.err
    for one in sockets.values():
        one.close()
