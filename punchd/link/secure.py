"""
The TLS of a punched connection: what Twisted's does, for large amounts at little cost.

Twisted's L{TLSMemoryBIOProtocol<twisted.protocols.tls.TLSMemoryBIOProtocol>} is made for many small
writes: it takes 16 KiB at a time through six layers of calls, gathers in a further turn of the
reactor what was gathered already, and ends each read with an exception. Here OpenSSL gets a whole
read, gives all its plaintext into memory that all connections share, and gets a whole write; what
it has encrypted goes to the kernel from where it is. Its buffers do not shrink by themselves, so
they are made anew when a connection has rested.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from OpenSSL import SSL
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IDelayedCall,
    IHandshakeListener,
    IProtocol,
    IPushProducer,
    IReactorTime,
    ISystemHandle,
    ITransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from punchd.identity.tls import ConnectionCreator
from punchd.link.records import PORTION, addressOf, borrow, giveBack, makeRecords
from punchd.net.gathering import Gathering
from punchd.net.reading import MOST, readLargely
from punchd.net.spacing import spaceLess
from punchd.net.unsent import MOST as MOST_UNSENT
from punchd.net.unsent import Unsent, boundUnsent
from punchd.net.writing import dropUnsent, writeAtOnce, writeLargely


@implementer(ITransport, IPushProducer, IConsumer, ISystemHandle)
class SecureConnection(Protocol):
    """
    Made for each handshake, given a transport by L{makeConnection}, and ended with it. It is the
    protocol of that transport and the transport of C{protocol}, which gets what
    C{TLSMemoryBIOProtocol} would give it: bytes only after C{handshakeCompleted}; a
    L{ConnectionLost} unless the other end has closed TLS in order; OpenSSL's error where that ended
    the connection. But its C{dataReceived} gets a view of memory that holds something else when it
    has returned.

    Writes are encrypted and sent at once, each in records of its own: gather small ones.

    @ivar punchdVerdict: what the handshake found out; the creator puts it there.
    """

    transport: Any

    def __init__(
        self, clock: IReactorTime, creator: ConnectionCreator, isClient: bool, protocol: IProtocol
    ) -> None:
        self.punchdVerdict: Any = None
        self.disconnecting = False
        self._clock = clock
        self._creator = creator
        self._isClient = isClient
        self._protocol: Any = protocol
        self._tls: Any = None
        self._records: Any = None
        self._isReady = False
        self._isTaking = False
        self._isPaused = False
        # What came while paused, whether OpenSSL has something too, and who will take it.
        self._held = b""
        self._isBehind = False
        self._taking: IDelayedCall | None = None
        # What was written before the handshake was done.
        self._early: list[bytes] = []
        self._producer: tuple[Any, bool] | None = None
        self._unsent: Any = None
        self._gathering: Gathering | None = None
        # Nothing can be read or written any more; whether the other end has said so; what broke.
        self._isOver = False
        self._isClosed = False
        self._isAborted = False
        self._broken: Failure | None = None

    # Beginning.

    def makeConnection(self, transport: Any) -> None:
        # By Twisted's annotations this can only be a transport of Twisted's.
        this: Any = self
        if self._isClient:
            self._tls = self._creator.clientConnectionForTLS(this)
            self._tls.set_connect_state()
        else:
            self._tls = self._creator.serverConnectionForTLS(this)
            self._tls.set_accept_state()
        self._records = makeRecords(self._tls, self._clock)
        # Where OpenSSL's callbacks look for the verdict.
        self._tls.set_app_data(self)
        super().makeConnection(transport)
        self._protocol.makeConnection(self)
        if not self._isOver:
            self._shakeHands()

    def _shakeHands(self) -> None:
        try:
            self._tls.do_handshake()
        except SSL.WantReadError:
            self._flush()
        except SSL.Error:
            self._break()
        else:
            self._flush()
            self._isReady = True
            early, self._early = self._early, []
            self._encrypt(b"".join(early))
            if self._producer is not None:
                producer, isStreaming = self._producer
                self._register(producer, isStreaming)
                if isStreaming:
                    producer.resumeProducing()
            elif self.disconnecting:
                self._close()
            self._gathering = readLargely(self.transport, self.dataReceived, self._clock)
            writeLargely(self.transport)
            # Last: it may change all that was looked at here.
            if IHandshakeListener.providedBy(self._protocol):
                self._protocol.handshakeCompleted()

    # Reading.

    def dataReceived(self, data: bytes | memoryview) -> None:
        """
        Take what came. It may be a view of memory that holds something else afterwards.
        """
        if self._isOver:
            return
        if self._isPaused or self._isTaking or self._held:
            # Pausing does not stop what was already read.
            self._held += data
        else:
            self._take(memoryview(data))

    def _take(self, data: memoryview) -> None:
        self._isTaking = True
        while (data or self._isBehind) and not (self._isOver or self._isPaused):
            if data:
                portion, data = data[:MOST], data[MOST:]
                self._records.take(portion)
            if self._isReady:
                self._isBehind = False
                self._decrypt()
            else:
                self._shakeHands()
                self._isBehind = self._isReady
        self._held = b"" if self._isOver else bytes(data)
        self._isBehind = self._isBehind and not self._isOver
        self._isTaking = False
        self._takeLater()

    def _decrypt(self) -> None:
        """
        OpenSSL has got more; hand on what was in it.
        """
        space = borrow()
        length, hasMore = self._records.decrypt(space)
        if hasMore:
            self._hear()
        elif not length:
            # A message of TLS's own, which may have made it say something.
            self._flush()
        if length and not self._isAborted:
            self._protocol.dataReceived(space.view[:length])
        giveBack(space)

    def _hear(self) -> None:
        """
        OpenSSL has something to tell that is no plaintext.
        """
        try:
            self._records.hear()
        except SSL.WantReadError:
            self._flush()
        except SSL.ZeroReturnError:
            self._isClosed = True
            self._close()
            self._isOver = True
            self.transport.loseConnection()
        except SSL.Error:
            self._break()

    def hurry(self, seconds: float) -> None:
        """
        Hand on at once what comes in the next C{seconds}: somebody waits for it.
        """
        if self._gathering is not None:
            self._gathering.hurry(seconds)

    def pauseProducing(self) -> None:
        """
        Hand on no more until L{resumeProducing}.
        """
        self._isPaused = True
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """
        Hand on again what comes; what has come meanwhile in the next turn of the reactor.
        """
        self._isPaused = False
        self.transport.resumeProducing()
        self._takeLater()

    def _takeLater(self) -> None:
        isWaiting = self._isTaking or self._isPaused or self._taking is not None
        if (self._held or self._isBehind) and not isWaiting:
            self._taking = self._clock.callLater(0, self._takeHeld)

    def _takeHeld(self) -> None:
        self._taking = None
        held, self._held = self._held, b""
        self._take(memoryview(held))

    def stopProducing(self) -> None:
        """
        Nobody wants any more.
        """
        self.loseConnection()

    # Writing.

    def write(self, data: bytes) -> None:
        # Who has registered as producer may write until it is done.
        if self._isOver or (self.disconnecting and self._producer is None):
            return
        if self._isReady:
            self._encrypt(data)
        elif data:
            self._early.append(data)

    def writeSequence(self, iovec: Iterable[bytes | memoryview]) -> None:
        pieces = list(iovec)
        length = sum(map(len, pieces))
        space = borrow()
        if self._isReady and not self.disconnecting and length <= space.end:
            # Gathered without asking malloc for so much each time, which costs page faults.
            at, view = 0, space.view
            for piece in pieces:
                end = at + len(piece)
                view[at:end] = piece
                at = end
            self._encryptPortion(space.view[:length], space.address)
        else:
            self.write(b"".join(pieces))
        giveBack(space)

    def _encrypt(self, data: bytes) -> None:
        plaintext = memoryview(data)
        while plaintext:
            portion, plaintext = plaintext[:PORTION], plaintext[PORTION:]
            self._encryptPortion(portion, addressOf(portion))

    def _encryptPortion(self, portion: memoryview, address: Any) -> None:
        if self._isOver:
            return
        if self._records.encrypt(address, len(portion)):
            self._flush()
        else:
            try:
                self._tls.send(portion)
            except SSL.Error:
                self._break()

    def _flush(self) -> None:
        """
        Send what OpenSSL has to say.
        """
        space = borrow()
        length = space.end
        while length == space.end:
            length = self._records.said(space)
            if length:
                writeAtOnce(self.transport, space.view[:length])
        giveBack(space)

    def spaceLess(self) -> None:
        """
        Let the system wait less for timers between what it sends.
        """
        spaceLess(self.transport)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Let C{producer} be told when the connection can take no more.
        """
        if self._isOver:
            producer.stopProducing()
            return
        if self._producer is not None:
            raise RuntimeError(f"cannot register {producer}: there is {self._producer[0]}")
        self._producer = (producer, streaming)
        if self._isReady:
            self._register(producer, streaming)
        elif streaming:
            producer.pauseProducing()

    def _register(self, producer: Any, isStreaming: bool) -> None:
        if isStreaming:
            producer = self._unsent = boundUnsent(self.transport, producer, self._clock)
        self.transport.registerProducer(producer, isStreaming)

    @property
    def portion(self) -> int:
        """
        Bytes that may be written at once. If there were more, what is written next would wait for
        them long.
        """
        return self._unsent.limit if isinstance(self._unsent, Unsent) else MOST_UNSENT

    def unregisterProducer(self) -> None:
        """
        The producer is done.
        """
        if self._producer is None:
            return
        self._producer = self._unsent = None
        if self._isReady:
            self.transport.unregisterProducer()
        if self.disconnecting and self._isReady and not self._isOver:
            self._close()

    # Ending.

    def loseConnection(self) -> None:
        if self.disconnecting or self._isOver:
            return
        self.disconnecting = True
        if not self._isReady and not self._early:
            # There is nothing yet that could be closed in order.
            self.abortConnection()
        elif self._isReady and self._producer is None:
            self._close()

    def _close(self) -> None:
        """
        Tell the other end that no more will come; when it has told us too, that is all.
        """
        try:
            isDone = self._tls.shutdown()
        except SSL.Error:
            isDone = False
        self._flush()
        if isDone:
            self.transport.loseConnection()

    def abortConnection(self) -> None:
        """
        End the connection now. Nothing is handed on any more.
        """
        self.disconnecting = True
        self._isAborted = self._isOver = True
        self.transport.abortConnection()

    def _break(self) -> None:
        """
        OpenSSL has raised an error. It may have an alert to send (RFC 8446, 6.2).
        """
        self._broken = self._broken or Failure()
        self._isOver = True
        self._flush()
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None
        if (self._held or self._isBehind) and not self._isOver:
            self._isPaused = False
            self._takeHeld()
        self._isOver = True
        self.connected = 0
        if self._records is not None:
            self._records.end()
        dropUnsent(self.transport)
        # Each holds the other.
        self._tls = self._records = self._unsent = None
        if not self._isReady and self._producer is not None:
            self._producer[0].stopProducing()
        self._producer = None
        if self._broken is None and not self._isClosed:
            # Whoever can cut the connection can send a FIN, but no end of TLS.
            self._broken = Failure(ConnectionLost())
        self._protocol.connectionLost(self._broken or reason)

    # What the connection is.

    @property
    def negotiatedProtocol(self) -> bytes | None:
        """
        What both ends speak (ALPN); C{None} while that is not known, and if they have nothing in
        common.
        """
        return (self._tls.get_alpn_proto_negotiated() or None) if self._tls is not None else None

    def getHandle(self) -> SSL.Connection | None:
        """
        OpenSSL's connection.
        """
        handle: SSL.Connection | None = self._tls
        return handle

    def getPeer(self) -> IAddress:
        peer: IAddress = self.transport.getPeer()
        return peer

    def getHost(self) -> IAddress:
        host: IAddress = self.transport.getHost()
        return host
