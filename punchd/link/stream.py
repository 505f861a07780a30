"""
One stream over one authenticated connection.

Until links carry several streams, each has a connection of its own, so TCP's flow control is the
stream's too. Frames (L{punchd.wire.frames}) give it what TLS does not: half-close, a refusal that
can be read, and an end that can be told from a break.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from automat import NoTransition
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IHandshakeListener,
    IProtocol,
    IReactorTime,
    ITransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from punchd.errors import ProtocolViolation, PunchdError, Unreachable
from punchd.link.measuring import RoundTrips
from punchd.link.opening import makeOpening
from punchd.net.pacing import Allowance
from punchd.wire.frames import MAX_DATA, FrameReader, Kind, packFrame, packHead
from punchd.wire.versions import LINK_ALPN

_T = TypeVar("_T")

#: Seconds until the callee must have connected the service, or refused: its own connection to it
#: has the usual 30.
OPENING = 40.0

#: Seconds until a measurement's answer must be there, and for which a stream that is only measured
#: is kept by the callee.
ANSWERING = 10.0
MEASURING = 60.0

#: Seconds that a stream which was told to close waits for the other end to agree.
CLOSING = 10.0

#: Seconds that the connection of a stream which the other end has broken may take to end in order.
BREAKING = 1.0

#: Pings that the other end may send, a second and at once: the answers lie in memory until it reads
#: them.
PINGS_PER_SECOND = 5.0
PINGS_AT_ONCE = 50.0


@implementer(ITransport, IHandshakeListener)
class Stream(Protocol):
    """
    Made with its connection; C{whenProven} is called when TLS has proven the other end. Then the
    caller calls L{elect}, the callee's C{onAsked} is called, and who has the stream gives it a
    protocol with L{carry}: from then on it is that protocol's transport.

    @ivar onAsked: called with this stream and the service's name when the caller elects it.
    @ivar opened: fires with C{None} when the callee has connected the service; fails with
        L{Refused} when it has not, with L{Unreachable} when the connection breaks before.
    @ivar service: what was asked for; C{None} before the election.
    @ivar mayReceive: whether the other end may send now.
    @ivar violation: what the other end did wrong, if it did.
    @ivar bytesIn: bytes of the stream that came; C{bytesOut}: that went.
    """

    transport: Any

    def __init__(self, clock: IReactorTime, whenProven: Callable[[], None]) -> None:
        self.bytesIn = 0
        self.bytesOut = 0
        self.service: str | None = None
        self.mayReceive = False
        self.opened: Deferred[None] = Deferred()
        self.violation: PunchdError | None = None
        self.onAsked: Callable[[Stream, str], None] = lambda stream, service: None
        self.isOver = False
        self._clock = clock
        self._whenProven = whenProven
        self._reader = FrameReader()
        self._opening = makeOpening(self)
        # An IProtocol, perhaps an IHalfCloseableProtocol.
        self._protocol: Any = None
        self._kept: list[bytes] = []
        self._finReceived = False
        self._finSent = False
        self._closing: IDelayedCall | None = None
        self._patience: IDelayedCall | None = None
        self._roundTrips = RoundTrips(clock, self.sendFrame)
        self._pings = Allowance(clock, PINGS_PER_SECOND, PINGS_AT_ONCE)
        self._isDeaf = False
        self._broken = ""
        self._awaitingEnd: list[Deferred[None]] = []

    # What the connection tells.

    def handshakeCompleted(self) -> None:
        if self.transport.negotiatedProtocol != LINK_ALPN:
            self._violated(ProtocolViolation("the other end does not speak punchd-link/1"))
        else:
            self._whenProven()

    def dataReceived(self, data: bytes) -> None:
        if self._isDeaf:
            return
        try:
            for kind, payload in self._reader.read(data):
                if kind is Kind.DATA:
                    self._dataReceived(payload)
                else:
                    self._frameReceived(kind, payload)
                if self._hasEnough():
                    return
        except ProtocolViolation as violation:
            self._violated(violation)
        except NoTransition:
            self._violated(ProtocolViolation("a frame that does not fit the stream's state"))

    def _hasEnough(self) -> bool:
        # A frame just read may have ended everything.
        return self._isDeaf

    def _dataReceived(self, data: bytes) -> None:
        if not self.mayReceive or self._finReceived:
            raise ProtocolViolation("DATA where none is allowed")
        self.bytesIn += len(data)
        if self._closing is not None:
            # Closed here, and the other end still talks: it must learn that nobody listens.
            self.abortConnection()
        elif self._protocol is None:
            self._kept.append(data)
            self.transport.pauseProducing()
        else:
            self._protocol.dataReceived(data)

    def _frameReceived(self, kind: Kind, payload: bytes) -> None:
        if kind is Kind.OPEN:
            self._opening.asked(_text(payload))
        elif kind is Kind.OPENED:
            self._opening.agreed()
        elif kind is Kind.REFUSED:
            self._opening.refused(_text(payload))
        elif kind is Kind.FIN:
            self._finCame()
        elif kind is Kind.RESET:
            self._isDeaf = True
            self._broken = _text(payload) or "reset by the other end"
            self._endBroken()
        elif kind is Kind.PING:
            if not self._pings.take():
                raise ProtocolViolation(f"more than {PINGS_PER_SECOND:.0f} PINGs a second")
            self.sendFrame(Kind.PONG, payload)
        elif kind is Kind.PONG:
            self._roundTrips.ponged()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.isOver = True
        if self._closing is not None and self._closing.active():
            self._closing.cancel()
        self._stopPatience(None)
        self._roundTrips.end()
        if not self.opened.called:
            self.opened.errback(
                self.violation or Unreachable("the connection ended before the service answered")
            )
        # Nobody may be waiting for it any more.
        self.opened.addErrback(_expected)
        if self._protocol is not None:
            finished = self._finReceived and self._finSent and not self._isDeaf
            why = ConnectionDone() if finished else ConnectionLost(self._broken or None)
            self._protocol.connectionLost(Failure(why))
        for ended in self._awaitingEnd:
            ended.callback(None)
        self._awaitingEnd.clear()

    def whenOver(self) -> Deferred[None]:
        """
        Fires when the connection is gone.
        """
        if self.isOver:
            return succeed(None)
        ended: Deferred[None] = Deferred()
        self._awaitingEnd.append(ended)
        return ended

    def _violated(self, violation: ProtocolViolation) -> None:
        self._isDeaf = True
        self.violation = violation
        self._broken = str(violation)
        self.transport.abortConnection()

    # Opening.

    def elect(self, service: str) -> None:
        """
        Caller: take this connection for a stream to C{service}; an empty name only measures. It
        breaks unless the callee agrees or refuses in time.
        """
        self._opening.elect(service)
        self._patience = self._clock.callLater(OPENING, self._losePatience)
        self.opened.addBoth(self._stopPatience)

    def agree(self) -> None:
        """
        Callee: the service is connected. A stream to no service, which is only measured, does not
        last.
        """
        if not self.service:
            self._patience = self._clock.callLater(MEASURING, self.abortConnection)
        self._opening.agree()

    def refuse(self, why: str) -> None:
        """
        Callee: there will be no stream; C{why} is for the person at the other end.
        """
        self._opening.refuse(why)

    def endRefused(self) -> None:
        """
        There will be no stream; the connection goes.
        """
        # What the caller sent before it heard of this is for nobody.
        self._isDeaf = True
        self._finSent = True
        self.transport.resumeProducing()
        self.transport.loseConnection()
        if self._closing is None and not self.isOver:
            self._closing = self._clock.callLater(CLOSING, self.transport.abortConnection)

    def carry(self, protocol: IProtocol) -> None:
        """
        Be C{protocol}'s transport. It gets all that has come so far, and what comes.
        """
        self._protocol = protocol
        if not self.isOver:
            self.transport.resumeProducing()
        protocol.makeConnection(self)
        if self.isOver:
            protocol.connectionLost(Failure(ConnectionLost(self._broken or None)))
            return
        kept, self._kept = self._kept, []
        for data in kept:
            protocol.dataReceived(data)
        if self._finReceived:
            self._tellInputEnded(protocol)

    # Measuring.

    def measure(self) -> Deferred[float]:
        """
        The round-trip time, end to end through TLS, in seconds.

        @raise Unreachable: when the connection ends first, or no answer comes.
        """
        if self.isOver:
            return fail(Unreachable("the connection ended"))
        return self._roundTrips.measure()

    @property
    def roundTrip(self) -> float | None:
        """
        Seconds, as last measured.
        """
        return self._roundTrips.latest

    # Ending.

    def _finCame(self) -> None:
        if not self.mayReceive or self._finReceived:
            raise ProtocolViolation("FIN where none is allowed")
        self._finReceived = True
        if self._protocol is not None:
            self._tellInputEnded(self._protocol)
        self._closeIfFinished()

    def _tellInputEnded(self, protocol: Any) -> None:
        if IHalfCloseableProtocol.providedBy(protocol):
            protocol.readConnectionLost()
        else:
            self.loseConnection()

    def _sendFin(self) -> None:
        if not self._finSent and not self.isOver:
            self._finSent = True
            self.sendFrame(Kind.FIN)

    def _closeIfFinished(self) -> None:
        if self._finSent and self._finReceived and not self.isOver:
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
        if self.isOver or self._closing is not None:
            return
        self._sendFin()
        self._closing = self._clock.callLater(CLOSING, self._stopWaiting)
        self.transport.resumeProducing()
        self._closeIfFinished()

    def _losePatience(self) -> None:
        self._patience = None
        self._broken = "the other end neither agreed nor refused"
        self.transport.abortConnection()

    def _stopPatience(self, result: _T) -> _T:
        if self._patience is not None and self._patience.active():
            self._patience.cancel()
        self._patience = None
        return result

    def _stopWaiting(self) -> None:
        self._broken = "the other end did not agree to close"
        self.transport.abortConnection()

    def _endBroken(self) -> None:
        """
        The other end has broken the stream: end the connection too, but in order if that is
        possible at once. A TCP reset would leave in the other's NAT the entry of a connection that
        was reset. One that is made of Linux then takes our next SYN on these two ports for invalid,
        and if it answers such SYNs, nobody connects until the entry is forgotten, 10 s later.
        """
        self.transport.unregisterProducer()
        self.transport.resumeProducing()
        self.transport.loseConnection()
        if self._closing is None:
            self._closing = self._clock.callLater(BREAKING, self.transport.abortConnection)

    def abortConnection(self) -> None:
        """
        Break the stream: the other end sees a reset, never an orderly end.
        """
        if self.isOver:
            return
        self._broken = self._broken or str(ConnectionAborted())
        self.sendFrame(Kind.RESET, b"the other side broke the stream")
        self.transport.unregisterProducer()
        self.transport.loseConnection()
        if self._closing is None:
            self._closing = self._clock.callLater(CLOSING, self.transport.abortConnection)

    # Writing, as a transport.

    def sendFrame(self, kind: Kind, payload: bytes = b"") -> None:
        """
        Send a frame that is no C{DATA}.
        """
        self.transport.write(packFrame(kind, payload))

    def write(self, data: bytes) -> None:
        if self._finSent or self.isOver:
            return
        self.bytesOut += len(data)
        if len(data) <= MAX_DATA:
            self.transport.writeSequence([packHead(Kind.DATA, len(data)), data])
            return
        view = memoryview(data)
        for at in range(0, len(data), MAX_DATA):
            piece = bytes(view[at : at + MAX_DATA])
            self.transport.writeSequence([packHead(Kind.DATA, len(piece)), piece])

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        self.write(b"".join(iovec))

    def getPeer(self) -> IAddress:
        peer: IAddress = self.transport.getPeer()
        return peer

    def getHost(self) -> IAddress:
        host: IAddress = self.transport.getHost()
        return host

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Let C{producer} be told when the connection cannot take more.
        """
        self.transport.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """
        The producer is done.
        """
        self.transport.unregisterProducer()

    def pauseProducing(self) -> None:
        """
        Deliver nothing until L{resumeProducing}; the other end will be told by TCP.
        """
        if not self.isOver:
            self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """
        Deliver again.
        """
        if not self.isOver:
            self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """
        Nobody wants any more.
        """
        self.loseConnection()


def _expected(failure: Failure) -> None:
    failure.trap(PunchdError)


def _text(payload: bytes) -> str:
    text = payload.decode("utf-8", "replace")
    return "".join(character if character.isprintable() else "?" for character in text)
