"""
The socket C{control} in a peer's state folder: how the command line speaks to the running peer.

One line of JSON asks, one line of JSON answers. After some questions the connection goes on:
after C{connect} it is the stream. What the client sends is the stream as it is, with half-close;
what it gets is in pieces, because a UNIX socket cannot tell a stream that ended from one that
broke. After C{open} and C{accept} it is a stream with pieces both ways (L{punchd.net.pieces}),
after C{serve} it tells who comes (L{punchd.peer.serving}). Only the folder's owner can open the
socket; what comes through it is bounded all the same.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IHalfCloseableProtocol, IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from punchd.errors import ConfigurationError, NoPath, PunchdError
from punchd.identity.folder import StateFolder
from punchd.identity.pins import Pins
from punchd.net.pieces import OutInPieces, PieceStream
from punchd.net.splicing import SpliceEnd, Splices, tuneLocal
from punchd.peer.connecting import Connecting
from punchd.peer.forwarding import Target
from punchd.peer.links import Links
from punchd.peer.serving import Announcing, Serving
from punchd.values.peers import PeerAddress, PeerID
from punchd.wire.frames import GOOD_READ

_log = Logger()

#: The socket's name in the state folder.
SOCKET = "control"

#: The longest question, and seconds until it must be there.
MOST_QUESTION = 4096
QUESTION_DEADLINE = 5.0

#: Bytes of a stream that are taken before it is there.
MOST_EARLY = 65536

#: Round trips that C{ping} measures.
_PINGS = 3


@frozen
class Becomes:
    """
    The answer to a question after which the connection goes on, as something else.

    @ivar facts: what is said first.
    @ivar make: gets the connection's transport, and returns the protocol that is connected to it.
    """

    facts: dict[str, Any]
    make: Callable[[Any], Any]


@define(eq=False)
class Answers:
    """
    What can be asked. Each method is a question; its arguments are the question's other keys.
    """

    _pins: Pins
    _opener: Connecting
    _links: Links
    _describe: Callable[[], dict[str, Any]]
    _pinsChanged: Callable[[], None]
    _findNat: Callable[[bool], Awaitable[dict[str, Any]]]
    _serving: Serving
    _own: PeerAddress
    _splices: Splices = field(factory=Splices)

    async def status(self) -> dict[str, Any]:
        """
        Everything about the peer.
        """
        return self._describe()

    async def nat(self, again: str) -> dict[str, Any]:
        """
        What stands before the peer.

        @param again: C{yes} to look again; else what was found last will do.
        """
        return await self._findNat(again == "yes")

    async def trust(self, name: str, id: str) -> dict[str, Any]:
        """
        Pin a peer; it counts at once.
        """
        replaced = self._pins.trust(name, PeerID.parse(id))
        self._pinsChanged()
        return {} if replaced is None else {"replaced": replaced}

    async def ping(self, peer: str, again: str) -> dict[str, Any]:
        """
        The path to a peer, measured.

        @param again: C{yes} to look for a path anew; else that of the link will do.
        """
        facts = self._links.factsOf(peer, self._pins.idOf(peer))
        try:
            link = await self._opener.reach(peer, again == "yes")
        except NoPath:
            return {"ok": False, "peer": peer, **self._links.describe(facts)}
        roundTrips = [await link.session.measure() for _ in range(_PINGS)]
        found = self._links.describe(facts)
        return {"peer": peer, **found, "rtt": round(min(roundTrips), 6)}

    async def connect(self, peer: str, service: str) -> Becomes:
        """
        A stream to a service; only what it says is in pieces.
        """
        stream = await self._stream(peer, service)

        def splice(transport: Any) -> SpliceEnd:
            local, remote = self._splices.pair()
            tuneLocal(transport, GOOD_READ)
            pieces = OutInPieces(transport, stream)
            local.whenLost = pieces.lost
            local.makeConnection(pieces)
            stream.carry(remote)
            return local

        return Becomes({}, splice)

    async def open(self, peer: str, service: str) -> Becomes:
        """
        A stream to a service, in pieces both ways.
        """
        stream = await self._stream(peer, service)
        return self._inPieces(stream, PeerAddress(peer, self._pins.idOf(peer)))

    async def serve(self, service: str) -> Becomes:
        """
        Expose a service of the process that asks, as long as its connection stays.
        """
        announcing = await self._serving.serve(service)

        def begin(transport: Any) -> Announcing:
            announcing.makeConnection(transport)
            return announcing

        return Becomes({"host": self._own.toJSON()}, begin)

    async def accept(self, stream: str) -> Becomes:
        """
        A stream that was announced to who serves, in pieces both ways.

        @param stream: its number.
        """
        taken = self._serving.accept(stream)
        return self._inPieces(taken, taken.getPeer())

    async def _stream(self, peer: str, service: str) -> Any:
        target = Target.parse(f"{peer}/{service}")
        stream: Any = await self._opener.openStream(target.peer, target.service)
        try:
            await stream.opened
        except BaseException:
            stream.abortConnection()
            raise
        return stream

    def _inPieces(self, stream: Any, peer: PeerAddress) -> Becomes:
        def splice(transport: Any) -> PieceStream:
            local, remote = self._splices.pair()
            tuneLocal(transport, GOOD_READ)
            pieces = PieceStream(peer, self._own)
            pieces.whenUnread = stream.loseConnection
            pieces.makeConnection(transport)
            pieces.carry(local)
            stream.carry(remote)
            return pieces

        return Becomes({"peer": peer.toJSON(), "host": self._own.toJSON()}, splice)


_QUESTIONS: dict[str, set[str]] = {
    "status": set(),
    "nat": {"again"},
    "trust": {"name", "id"},
    "ping": {"peer", "again"},
    "connect": {"peer", "service"},
    "open": {"peer", "service"},
    "serve": {"service"},
    "accept": {"stream"},
}


@implementer(IHalfCloseableProtocol)
class ControlConnection(Protocol):
    """
    One question, and what follows from it.
    """

    transport: Any

    def __init__(self, clock: IReactorTime, answers: Answers) -> None:
        self.whenLost: Callable[[], None] = lambda: None
        self._answers = answers
        self._received = b""
        self._deadline: IDelayedCall | None = clock.callLater(QUESTION_DEADLINE, self._tooLate)
        self._answering: Deferred[None] | None = None
        # What the connection has become, if it has.
        self._become: Any = None
        self._inputEnded = False

    def dataReceived(self, data: bytes) -> None:
        if self._become is not None:
            self._become.dataReceived(data)
            return
        self._received += data
        if self._answering is not None:
            # It belongs to a stream that is not there yet. Reading goes on for a while, because
            # only who reads notices that the other end has hung up.
            if len(self._received) > MOST_EARLY:
                self.transport.pauseProducing()
            return
        line, newline, rest = self._received.partition(b"\n")
        if newline and len(line) <= MOST_QUESTION:
            self._received = rest
            self._stopDeadline()
            self._answering = Deferred.fromCoroutine(self._answer(line))
            self._answering.addErrback(self._broken)
        elif len(self._received) > MOST_QUESTION:
            self._say({"ok": False, "error": "the question is too long"})
            self.transport.loseConnection()

    async def _answer(self, line: bytes) -> None:
        try:
            question, arguments = _parse(line)
            answering: Awaitable[Any] = getattr(self._answers, question)(**arguments)
            answer = await answering
        except PunchdError as error:
            self._say({"ok": False, "error": str(error), "kind": type(error).__name__})
            self.transport.loseConnection()
            return
        if isinstance(answer, Becomes):
            self._say({"ok": True, **answer.facts})
            self._goOn(answer)
        else:
            self._say({"ok": True, **answer})
            self.transport.loseConnection()

    def _goOn(self, answer: Becomes) -> None:
        received, self._received = self._received, b""
        self._become = answer.make(self.transport)
        if received:
            self._become.dataReceived(received)
        if self._inputEnded:
            self._become.readConnectionLost()

    def readConnectionLost(self) -> None:
        self._inputEnded = True
        if self._become is not None:
            self._become.readConnectionLost()
        elif self._answering is None:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        if self._become is not None:
            self._become.writeConnectionLost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.whenLost()
        self._stopDeadline()
        if self._become is not None:
            self._become.connectionLost(reason)
        elif self._answering is not None:
            self._answering.cancel()

    def _say(self, answer: dict[str, Any]) -> None:
        self.transport.write(json.dumps(answer).encode("ascii") + b"\n")

    def _tooLate(self) -> None:
        self._deadline = None
        self._say({"ok": False, "error": "no question came"})
        self.transport.loseConnection()

    def _stopDeadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _broken(self, failure: Failure) -> None:
        if failure.check(CancelledError) is None:
            _log.failure("while answering on the control socket", failure)
            self._say({"ok": False, "error": "a bug; see the log of punchd-peer"})
            self.transport.loseConnection()


def _parse(line: bytes) -> tuple[str, dict[str, str]]:
    try:
        question = json.loads(line)
        name = question.pop("command")
        wanted = _QUESTIONS[name]
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise ConfigurationError("that is no question") from None
    if set(question) != wanted or not all(isinstance(one, str) for one in question.values()):
        raise ConfigurationError(f"{name} takes {', '.join(sorted(wanted)) or 'nothing'}")
    return name, question


def clearSocket(folder: StateFolder) -> None:
    """
    Make way for the control socket: a peer that was killed has left its own. A lock file with a
    process number would not do; after a restart of the machine another process has the number.

    @raise ConfigurationError: when another peer is alive there, or something is in the way.
    """
    path = folder.file(SOCKET)
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(path))
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        if path.is_socket():
            path.unlink(missing_ok=True)
            return
        reason = "something else has that name"
    except OSError as error:
        reason = error.strerror or str(error)
    else:
        raise ConfigurationError(
            f"another punchd-peer is running with the state folder {folder.path}; "
            "stop it, or choose another folder with --state"
        )
    raise ConfigurationError(f"cannot make the control socket {path}: {reason}")


class ControlFactory(Factory):
    """
    The control socket's. Lives as long as the peer.
    """

    noisy = False

    def __init__(self, clock: IReactorTime, answers: Answers) -> None:
        self._clock = clock
        self._answers = answers

        self._connections: set[ControlConnection] = set()

    def buildProtocol(self, addr: IAddress | None) -> ControlConnection:
        connection = ControlConnection(self._clock, self._answers)
        self._connections.add(connection)
        connection.whenLost = lambda: self._connections.discard(connection)
        return connection

    def stopFactory(self) -> None:
        # Where the peer is part of a program, the process does not end with it.
        for connection in list(self._connections):
            if connection.transport is not None:
                connection.transport.abortConnection()
