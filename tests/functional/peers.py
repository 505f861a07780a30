"""
C{punchd-peer} and C{punchd} as processes, and services for them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.interfaces import IHalfCloseableProtocol, IListeningPort
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from zope.interface import implementer

from punchd.cli.control import Failed, ask
from punchd.identity.folder import StateFolder
from punchd.identity.keys import Identity
from punchd.identity.pins import Pins
from tests.functional.clients import Wire
from tests.functional.processes import PATIENCE, Running, runTwistd, sleep


@implementer(IHalfCloseableProtocol)
class Summing(Protocol):
    """
    A service that answers when the question is over: so many bytes, and the bytes themselves.
    """

    transport: Any

    def connectionMade(self) -> None:
        self._received = b""

    def dataReceived(self, data: bytes) -> None:
        self._received += data

    def readConnectionLost(self) -> None:
        self.transport.write(b"%d:" % len(self._received) + self._received)
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        pass


class Echo(Protocol):
    """
    A service that says what it hears.
    """

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


class _Serving(Factory):
    """
    Knows its connections.
    """

    noisy = False

    def __init__(self) -> None:
        self.connected: set[Protocol] = set()

    def buildProtocol(self, addr: Any) -> Protocol | None:
        protocol: Any = super().buildProtocol(addr)
        connectionLost = protocol.connectionLost

        def lost(reason: Any) -> None:
            self.connected.discard(protocol)
            connectionLost(reason)

        protocol.connectionLost = lost
        self.connected.add(protocol)
        return protocol  # type: ignore[no-any-return]


async def unused(ports: list[Any]) -> None:
    """
    Wait until nobody is connected to any of these services: peers close a little after their
    clients.
    """
    for _ in range(int(PATIENCE / 0.01)):
        if not any(port.factory.connected for port in ports):
            return
        await sleep(0.01)
    raise AssertionError("somebody stays connected to a service")


def serve(protocol: type[Protocol]) -> IListeningPort:
    """
    A service on a free port of the loopback interface.
    """
    from twisted.internet import reactor

    factory: Any = _Serving.forProtocol(protocol)
    port: IListeningPort = reactor.listenTCP(0, factory, interface="127.0.0.1")
    return port


def portOf(listening: IListeningPort) -> int:
    address: Any = listening.getHost()
    number: int = address.port
    return number


_BINARIES = Path(sys.executable).parent


class Command(Running):
    """
    A command of a person, who may type something.
    """

    def write(self, data: bytes) -> None:
        self._process.write(data)

    def closeInput(self) -> None:
        self._process.closeStdin()


def runPunchd(*arguments: str) -> Command:
    """
    Run C{punchd} with these arguments.
    """
    return Command(sys.executable, str(_BINARIES / "punchd"), *arguments)


def runShell(command: str) -> Command:
    """
    Run a line of shell, in which C{punchd} is known.
    """
    return Command("/bin/sh", "-c", f"PATH={_BINARIES}:$PATH; {command}")


async def punchd(*arguments: str) -> Command:
    """
    Run C{punchd} to its end.
    """
    running = runPunchd(*arguments)
    await running.ended()
    return running


@define(eq=False)
class Peer:
    """
    C{punchd-peer} as a process.
    """

    name: str
    state: Path
    options: list[str] = field(factory=list)
    running: list[Running] = field(factory=list)
    environment: dict[str, str] = field(factory=dict)

    @property
    def identity(self) -> Identity:
        return Identity.inFolder(StateFolder.at(str(self.state)))

    def trust(self, *others: Peer) -> None:
        """
        Pin others before this one runs.
        """
        pins = Pins.inFolder(StateFolder.at(str(self.state)))
        for other in others:
            pins.trust(other.name, other.identity.peerID)

    def launch(self, *options: str) -> Running:
        """
        Run it.
        """
        process = runTwistd(
            "-n",
            "--pidfile=",
            "punchd-peer",
            f"--name={self.name}",
            f"--state={self.state}",
            *self.options,
            *options,
            environment=self.environment,
        )
        self.running.append(process)
        return process

    async def start(self, *options: str) -> None:
        """
        Run it until it is ready for introductions.
        """
        self.launch(*options)
        await self.awaitMaster("connected")

    async def awaitMaster(self, state: str) -> dict[str, Any]:
        """
        Wait until C{punchd status} says so of the server.
        """
        return await self.awaitStatus(lambda status: status["master"] == state)

    async def awaitStatus(self, isSo: Any) -> dict[str, Any]:
        """
        Wait until something is so.
        """
        for _ in range(int(PATIENCE / 0.05)):
            if self.process.status is not None:
                break
            status = await self.status()
            if status is not None and isSo(status):
                return status
            await sleep(0.05)
        raise AssertionError(f"{self.name} is not as expected:\n{self.log}")

    async def status(self) -> dict[str, Any] | None:
        """
        What it says of itself, if it does.
        """
        try:
            answer: dict[str, Any] = await deferToThread(ask, str(self.state), "status")
        except Failed:
            return None
        return answer

    @property
    def process(self) -> Running:
        return self.running[-1]

    @property
    def log(self) -> str:
        """
        What all its processes have said.
        """
        return "".join(one.out + one.err for one in self.running)

    async def punchd(self, command: str, *arguments: str) -> Command:
        """
        Run C{punchd} for this peer.
        """
        return await punchd(command, f"--state={self.state}", *arguments)

    async def stop(self, signal: str = "TERM") -> None:
        """
        End it, if it runs.
        """
        if self.running and self.process.status is None:
            await self.process.stop(signal)


async def dialUNIX(path: Path, data: bytes = b"") -> Wire:
    """
    A connection to a UNIX socket, on which C{data} is sent.
    """
    from twisted.internet import reactor

    wire: Wire = await connectProtocol(UNIXClientEndpoint(reactor, str(path)), Wire())
    wire.transport.write(data)
    return wire
