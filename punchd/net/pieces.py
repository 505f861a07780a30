"""
A stream over a local socket: with half-close, and an end that can be told from a break.

A UNIX socket tells neither an orderly end from a process that died, nor the end of one direction
from that of both. So what is written goes out in pieces, each with its length before it (four
bytes, big-endian); a piece of length 0 says that this direction has ended in order. A connection
that ends before both directions have was broken. After the end, the length of all ones may say that
nothing is read any more either, so that whoever passes the stream on can close it, too. Instead of
an end, or of that, all ones but the last may say that the stream was broken; what follows is the
reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from typing import Protocol as Typing

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IDelayedCall,
    IHalfCloseableProtocol,
    IPushProducer,
    ITransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure
from zope.interface import implementer

from punchd.net.writing import dropUnsent, writeAtOnce

#: Bytes of a piece's length.
PIECE_HEAD = 4

#: In place of a length.
END = bytes(PIECE_HEAD)
CLOSED = b"\xff" * PIECE_HEAD
BROKEN = b"\xff\xff\xff\xfe"

#: Seconds for which somebody may leave unread why a stream was broken.
UNREAD = 3.0


def _nothing() -> None:
    pass


@implementer(ITransport, IConsumer, IPushProducer)
class PieceStream(Protocol):
    """
    One end of such a stream. It has the methods of a L{Stream<punchd.link.stream.Stream>}, with the
    same meaning: who has it gives it a protocol with L{carry}, and it is that protocol's transport.
    It lives as long as the socket, whose protocol it is, or is told what happens by whoever is.

    @ivar whenUnread: called when the other end says that it reads no more.
    @ivar opened: has fired: it was agreed on before the socket became a stream.
    @ivar disconnecting: whether the protocol has said that it wants no more.
    """

    transport: Any

    def __init__(self, peer: IAddress, host: IAddress) -> None:
        self.whenUnread: Callable[[], None] = _nothing
        self.opened: Deferred[None] = succeed(None)
        self.disconnecting = False
        self.isOver = False
        self._peer = peer
        self._host = host
        # An IProtocol, perhaps an IHalfCloseableProtocol.
        self._protocol: Any = None
        # What was read, how much of it was handed on, and what is still to come of a piece.
        self._read = b""
        self._at = 0
        self._left = 0
        self._isPaused = True
        self._finReceived = False
        self._finSent = False
        self._isAborted = False
        self._isClosing = False
        self._hasProducer = False
        self._awaitingEnd: list[Deferred[None]] = []

    # As a stream.

    def agree(self) -> None:
        """
        Nothing is left to agree on.
        """

    def refuse(self, why: str) -> None:
        """
        It is too late for a reason.
        """
        self.abortConnection()

    def carry(self, protocol: Any) -> None:
        """
        Be C{protocol}'s transport. It gets all that has come so far, and what comes.
        """
        self._protocol = protocol
        self._isPaused = False
        protocol.makeConnection(self)
        if self.isOver:
            protocol.connectionLost(self._why())
        elif not self._isPaused:
            self._isPaused = True
            self.resumeProducing()

    def whenOver(self) -> Deferred[None]:
        """
        Fires when the socket is gone.
        """
        if self.isOver:
            return succeed(None)
        ended: Deferred[None] = Deferred()
        self._awaitingEnd.append(ended)
        return ended

    # What the socket tells.

    def connectionMade(self) -> None:
        if self._protocol is None:
            self.transport.pauseProducing()

    def dataReceived(self, data: bytes) -> None:
        left = self._read[self._at :]
        self._read, self._at = left + data if left else data, 0
        self._handOn()

    def _handOn(self) -> None:
        # Whoever gets something may pause, resume or end us.
        while not self._isPaused and not self._isAborted:
            there = len(self._read) - self._at
            if self._left and there:
                end = self._at + min(self._left, there)
                piece = self._read[self._at : end]
                self._left -= len(piece)
                self._at = end
                self._deliver(piece)
            elif not self._left and there >= PIECE_HEAD:
                end = self._at + PIECE_HEAD
                head = self._read[self._at : end]
                self._at = end
                if head == END:
                    self._finCame()
                elif head == CLOSED and self._finReceived:
                    self.whenUnread()
                else:
                    self._left = int.from_bytes(head, "big")
            else:
                return

    def _deliver(self, piece: bytes) -> None:
        if self._finReceived:
            # It was said that nothing more would come.
            self.abortConnection()
        elif not self._isClosing:
            self._protocol.dataReceived(piece)

    def _finCame(self) -> None:
        self._finReceived = True
        if IHalfCloseableProtocol.providedBy(self._protocol):
            self._protocol.readConnectionLost()
        else:
            self.loseConnection()
        self._closeIfFinished()

    def readConnectionLost(self) -> None:
        """
        The socket ends one direction by itself, which is no orderly end here.
        """
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.isOver = True
        dropUnsent(self.transport)
        if self._protocol is not None:
            self._protocol.connectionLost(self._why())
        for ended in self._awaitingEnd:
            ended.callback(None)
        self._awaitingEnd.clear()

    def _why(self) -> Failure:
        if self._isAborted:
            return Failure(ConnectionAborted())
        if self._finSent and self._finReceived:
            return Failure(ConnectionDone())
        return Failure(ConnectionLost())

    # Ending.

    def _sendFin(self) -> None:
        if not self._finSent and not self.isOver:
            self._finSent = True
            self.transport.write(END)

    def _closeIfFinished(self) -> None:
        if self._finSent and self._finReceived and not self.isOver:
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def loseWriteConnection(self) -> None:
        """
        Nothing more will be written; reading goes on.
        """
        self._sendFin()
        if IHalfCloseableProtocol.providedBy(self._protocol):
            self._protocol.writeConnectionLost()
        self._closeIfFinished()

    def loseConnection(self) -> None:
        """
        Close, when all is written and the producer, if there is one, is done. What still comes is
        for nobody; how long the other end may take to agree is for those to say who pass the stream
        on, and know when it has got everything.
        """
        if self.isOver or self._isClosing:
            return
        self._isClosing = self.disconnecting = True
        if not self._hasProducer:
            self._close()
        self.resumeProducing()

    def _close(self) -> None:
        self._sendFin()
        if not self._finReceived:
            self.transport.write(CLOSED)
        self._closeIfFinished()

    def abortConnection(self) -> None:
        """
        Break the stream.
        """
        if not self.isOver:
            self.disconnecting = self._isAborted = True
            self.transport.abortConnection()

    # As a transport.

    def write(self, data: bytes) -> None:
        if data and not self._finSent and not self.isOver:
            self.transport.writeSequence([len(data).to_bytes(PIECE_HEAD, "big"), data])

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        self.write(b"".join(iovec))

    def getPeer(self) -> IAddress:
        return self._peer

    def getHost(self) -> IAddress:
        return self._host

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._hasProducer = True
        self.transport.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        self._hasProducer = False
        self.transport.unregisterProducer()
        if self._isClosing and not self._finSent and not self.isOver:
            self._close()

    def pauseProducing(self) -> None:
        self._isPaused = True
        if not self.isOver:
            self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        if self.isOver or not self._isPaused:
            return
        self._isPaused = False
        self._handOn()
        if not self._isPaused and not self.isOver:  # handing on may have changed both
            self.transport.resumeProducing()

    def stopProducing(self) -> None:
        self.loseConnection()


class Carried(Typing):
    """
    A stream that somebody passes on; see L{punchd.link.stream.Stream}.
    """

    why: str
    hasFinished: bool

    def whenOver(self) -> Deferred[None]:
        """Fires when it is gone."""


class OutInPieces:
    """
    The transport of a connection over which a stream goes, and only what is written is in pieces.
    Who reads it learns last how the stream has ended: also what was sent to it may get lost.
    """

    def __init__(self, transport: Any, stream: Carried) -> None:
        self._transport = transport
        self._stream = stream
        self._isClosing = self._isDone = False
        self._givingUp: IDelayedCall | None = None

    def write(self, data: bytes) -> None:
        """
        Send one piece.
        """
        if data:
            self._transport.writeSequence([len(data).to_bytes(PIECE_HEAD, "big"), data])

    def loseWriteConnection(self) -> None:
        """
        Say that the end has come in order.
        """
        self._transport.write(END)

    def loseConnection(self) -> None:
        """
        Close as soon as the stream is over: what was read may still be on its way.
        """
        if not self._isClosing:
            self._isClosing = True
            self._stream.whenOver().addCallback(lambda _: self._close())

    def _close(self) -> None:
        if not self._stream.hasFinished:
            self.abortConnection()
        elif not self._isDone:
            self._isDone = True
            writeAtOnce(self._transport, CLOSED)
            self._transport.loseConnection()

    def abortConnection(self) -> None:
        """
        Say that the stream was broken, and why.
        """
        if self._isDone:
            return
        self._isDone = True
        writeAtOnce(self._transport, BROKEN + self._stream.why.encode())
        self._transport.loseConnection()
        if isinstance(self._transport, Connection) and self._givingUp is None:
            clock: Any = self._transport.reactor
            self._givingUp = clock.callLater(UNREAD, self._transport.abortConnection)

    def lost(self) -> None:
        """
        The connection is gone.
        """
        dropUnsent(self._transport)
        self._isDone = True
        if self._givingUp is not None and self._givingUp.active():
            self._givingUp.cancel()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
