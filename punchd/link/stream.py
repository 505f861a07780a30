"""
One stream of a link, as a Twisted transport.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IDelayedCall,
    IHalfCloseableProtocol,
    IProtocol,
    IPushProducer,
    ITransport,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from punchd.errors import ProtocolViolation, PunchdError, Refused, Unreachable
from punchd.link.carrier import Carrier
from punchd.link.flow import EARLY, Credit, Window
from punchd.link.pulling import PullAdapter
from punchd.wire.frames import (
    FULL_DATA,
    Kind,
    packFrame,
    packHead,
    packOpen,
    packOpened,
    packPosition,
)

#: Seconds until the callee must have connected the service, or refused: its own connection to it
#: has the usual 30.
OPENING = 40.0

#: Seconds that a stream whose other end knows that it was closed here waits for it to agree.
CLOSING = 10.0

#: Bytes that are queued before the producer is paused.
QUEUED = 65536


@implementer(ITransport, IConsumer, IPushProducer)
class Stream:
    """
    Made by its L{Session<punchd.link.session.Session>}. The end that was asked for the service
    calls L{agree} or L{refuse}; either end gives the stream a protocol with L{carry}: from then on
    it is that protocol's transport. It ends with C{ConnectionDone} when both ends have closed it
    and each has all that the other has written; else with C{ConnectionLost}.

    @ivar number: in the link.
    @ivar service: what was asked for.
    @ivar isOpener: whether this end asked.
    @ivar opened: fires with C{None} when the other end has connected the service; fails with
        L{Refused} when it has not, with L{Unreachable} when the stream breaks before.
    @ivar bytesIn: bytes of the stream that came; C{bytesOut}: that were written.
    """

    # Twisted's transports have it, and some protocols look at it.
    disconnecting = False

    def __init__(self, carrier: Carrier, number: int, service: str, isOpener: bool) -> None:
        self.number = number
        self.service = service
        self.isOpener = isOpener
        self.bytesIn = 0
        self.bytesOut = 0
        self.isOver = False
        #: Whether this end's end is on its way.
        self.finSent = False
        #: Whether the session has it among those that have something to send.
        self.isReady = False
        self.opened: Deferred[None] = Deferred()
        self._carrier = carrier
        self._isAgreed = False
        # An IProtocol, perhaps an IHalfCloseableProtocol.
        self._protocol: Any = None
        self._timer: IDelayedCall | None = None
        self._awaitingEnd: list[Deferred[None]] = []
        # What comes.
        self._window = Window(carrier.budget, carrier.limits)
        self._unread: deque[bytes] = deque()
        self._isPaused = False
        self._isDelivering = False
        self._finReceived = False
        self._inputEnded = False
        # What goes.
        self._credit = Credit(EARLY)
        self._queue: deque[bytes | memoryview] = deque()
        self._queued = 0
        self._producer: Any = None
        self._producerIsPaused = False
        self._isClosing = False
        self._finWanted = False
        self._finArrived = False
        self._nobodyListens = False

    # Opening.

    def ask(self) -> None:
        """
        Session: this end opens the stream.
        """
        window = self._window.open(self._carrier.clock.seconds())
        self._carrier.send(packOpen(self.number, window, self.service))
        self._timer = self._carrier.clock.callLater(OPENING, self._losePatience)

    def asked(self, window: int) -> None:
        """
        Session: the other end opens it, and grants C{window} bytes.
        """
        self._credit.extend(max(window, EARLY))

    def agree(self) -> None:
        """
        The service is connected.
        """
        if self.isOver or self._isAgreed or self.isOpener:
            return
        self._isAgreed = True
        self._carrier.send(
            packOpened(self.number, self._window.open(self._carrier.clock.seconds()))
        )
        self.opened.callback(None)
        self._wake()

    def refuse(self, why: str) -> None:
        """
        There will be no stream; C{why} is for the person at the other end.
        """
        if self.isOver or self._isAgreed or self.isOpener:
            return
        self._carrier.send(packFrame(Kind.REFUSED, why.encode("utf-8"), self.number))
        self._end(ConnectionLost(why), Refused(why))

    def agreed(self, window: int) -> None:
        """
        Session: the other end agrees.

        @raise ProtocolViolation: when it was not asked, or has said so before.
        """
        self._answered("OPENED")
        self._isAgreed = True
        self._credit.extend(max(window, self._credit.limit))
        self.opened.callback(None)
        self._wake()

    def refused(self, why: str) -> None:
        """
        Session: the other end refuses.

        @raise ProtocolViolation: as L{agreed}.
        """
        self._answered("REFUSED")
        self._end(ConnectionLost(why), Refused(why))

    def _answered(self, what: str) -> None:
        if self._isAgreed or not self.isOpener:
            raise ProtocolViolation(f"{what} where none is allowed")
        self._stopTimer()

    def _losePatience(self) -> None:
        self._timer = None
        if self._carrier.isConnected:
            self._break("the other end neither agreed nor refused")
        else:
            self._timer = self._carrier.clock.callLater(OPENING, self._losePatience)

    def carry(self, protocol: IProtocol) -> None:
        """
        Be C{protocol}'s transport. It gets all that has come so far, and what comes.
        """
        self._protocol = protocol
        protocol.makeConnection(self)
        if self.isOver:
            self._tellLost(ConnectionLost(self._why))
        else:
            self._deliver()

    # Reading.

    def dataReceived(self, data: bytes) -> None:
        """
        Session: bytes of the stream.

        @raise ProtocolViolation: when they may not come.
        """
        if self._finReceived or not (self._isAgreed or not self.isOpener):
            raise ProtocolViolation("DATA where none is allowed")
        length = len(data)
        self._window.receive(length)
        self.bytesIn += length
        if self._isClosing:
            # Closed here, and the other end still talks: it must learn that nobody listens, but
            # after all that was written.
            self._nobodyListens = True
            if self.finSent:
                self._break("nobody listens any more")
        elif self._protocol is None or self._isPaused or self._isDelivering:
            self._unread.append(data)
        else:
            self._protocol.dataReceived(data)
            self._consumed(length)

    def _deliver(self) -> None:
        if self._isDelivering:
            return
        self._isDelivering = True
        while self._unread and not self._isPaused and not self._isClosing and not self.isOver:
            data = self._unread.popleft()
            self._protocol.dataReceived(data)
            self._consumed(len(data))
        self._isDelivering = False
        self._tellInputEnded()

    def _consumed(self, length: int) -> None:
        if self._window.consume(length) and not self._finReceived and not self.isOver:
            carrier = self._carrier
            credit = self._window.grant(carrier.clock.seconds(), carrier.roundTrip)
            carrier.send(packPosition(Kind.CREDIT, credit, self.number), withAck=True)

    def finReceived(self) -> None:
        """
        Session: no more will come.

        @raise ProtocolViolation: when that was said before, or may not be yet.
        """
        if self._finReceived or not (self._isAgreed or not self.isOpener):
            raise ProtocolViolation("FIN where none is allowed")
        self._finReceived = True
        self._tellInputEnded()

    def _tellInputEnded(self) -> None:
        if self._inputEnded or not self._finReceived or self.isOver or self._isDelivering:
            return
        if not self._isClosing and (self._unread or self._protocol is None or self._isPaused):
            return
        self._inputEnded = True
        if IHalfCloseableProtocol.providedBy(self._protocol):
            self._protocol.readConnectionLost()
        else:
            self.loseConnection()
        self._endIfDone()

    def pauseProducing(self) -> None:
        """
        Deliver nothing until L{resumeProducing}; the other end may fill the window.
        """
        self._isPaused = True

    def resumeProducing(self) -> None:
        """
        Deliver again.
        """
        self._isPaused = False
        if self._protocol is not None and (self._unread or self._finReceived):
            self._deliver()

    def stopProducing(self) -> None:
        """
        Nobody wants any more.
        """
        self.loseConnection()

    # Writing.

    def write(self, data: bytes) -> None:
        if self.finSent or self.isOver or not data:
            return
        if self._finWanted and self._producer is None:
            return
        length = len(data)
        self.bytesOut += length
        self._queue.append(data)
        self._queued += length
        if not self.isReady:
            self._wake()
        if self._queued > QUEUED and self._producer is not None and not self._producerIsPaused:
            self._producerIsPaused = True
            self._producer.pauseProducing()

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        self.write(b"".join(iovec))

    def _wake(self) -> None:
        if self.hasSomething and not self.isReady:
            self._carrier.ready(self, self._queued)

    @property
    def hasSomething(self) -> bool:
        """
        Whether there is something that may be sent now.
        """
        if self.isOver or not (self._isAgreed or self.isOpener):
            return False
        if self._queue:
            return self._credit.left > 0
        return self._finWanted and not self.finSent and self._producer is None

    def take(self, pieces: list[bytes | memoryview]) -> int:
        """
        Session: add a frame, and perhaps the last one, to C{pieces}.

        @return: their bytes.
        """
        queue = self._queue
        length = min(self._queued, self._credit.left, FULL_DATA)
        taken = 0
        if length > 0:
            taken = 8 + length
            pieces.append(packHead(Kind.DATA, length, self.number))
            self._credit.sent += length
            self._queued -= length
            if not self._queued:
                pieces.extend(queue)
                queue.clear()
            else:
                self._cut(pieces, length)
        if not queue:
            if self._finWanted and not self.finSent and self._producer is None:
                pieces.append(packFrame(Kind.FIN, b"", self.number))
                taken += 8
                self.finSent = True
            elif self._producerIsPaused:
                self._producerIsPaused = False
                self._producer.resumeProducing()
        return taken

    def _cut(self, pieces: list[bytes | memoryview], length: int) -> None:
        queue = self._queue
        while length:
            first = queue.popleft()
            if len(first) > length:
                view = memoryview(first)
                pieces.append(view[:length])
                queue.appendleft(view[length:])
                return
            pieces.append(first)
            length -= len(first)

    def credited(self, limit: int) -> None:
        """
        Session: the other end grants more.
        """
        self._credit.extend(limit)
        if self._queue and not self.isReady:
            self._wake()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Let C{producer} be told when the stream cannot take more.
        """
        if self._producer is not None:
            raise RuntimeError("this stream has a producer already")
        if self.isOver:
            producer.stopProducing()
            return
        if streaming:
            self._producer = producer
            if self._queued > QUEUED:
                self._producerIsPaused = True
                producer.pauseProducing()
        else:
            self._producer = PullAdapter(self._carrier.clock, producer)
            self._producerIsPaused = self._queued > QUEUED
            if not self._producerIsPaused:
                self._producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """
        The producer is done.
        """
        if isinstance(self._producer, PullAdapter):
            self._producer.pauseProducing()
        self._producer = None
        self._producerIsPaused = False
        self._wake()

    # Ending.

    def loseWriteConnection(self) -> None:
        """
        Nothing more will be written; reading goes on.
        """
        if not self._finWanted and not self.isOver:
            self._finWanted = True
            self._wake()

    def loseConnection(self) -> None:
        """
        Close, after what was written; and when the producer, if there is one, is done. What the
        other end still sends breaks the stream, when all is written.
        """
        if self.isOver or self._isClosing:
            return
        self._isClosing = self.disconnecting = True
        if self._unread:
            self._nobodyListens = True
            self._unread.clear()
        self.loseWriteConnection()
        if self.finSent:
            self.finLeft()
        if not self.isOver:
            self._tellInputEnded()

    def finLeft(self) -> None:
        """
        Session: this end's end is on its way.
        """
        if self._nobodyListens:
            self._break("nobody listens any more")
        elif self._finArrived:
            self.finArrived()
        if not self.isOver and not self._isClosing:
            if IHalfCloseableProtocol.providedBy(self._protocol):
                self._protocol.writeConnectionLost()

    def finArrived(self) -> None:
        """
        Session: the other end has all that was written, and knows that it is all.
        """
        self._finArrived = True
        if not self.isOver:
            self._endIfDone()
        if not self.isOver and self._isClosing and self._timer is None:
            self._timer = self._carrier.clock.callLater(CLOSING, self._stopWaiting)

    def _endIfDone(self) -> None:
        if self._finArrived and self._inputEnded and not self.isOver:
            self._end(ConnectionDone(), Unreachable("the stream was closed"))

    def _stopWaiting(self) -> None:
        self._timer = None
        if self._carrier.isConnected:
            self._break("the other end did not agree to close")
        else:
            self._timer = self._carrier.clock.callLater(CLOSING, self._stopWaiting)

    def abortConnection(self) -> None:
        """
        Break the stream: the other end sees a reset, never an orderly end.
        """
        if not self.isOver:
            self._break("the other side broke the stream", str(ConnectionAborted()))

    def _break(self, why: str, here: str | None = None) -> None:
        self._carrier.send(packFrame(Kind.RESET, why.encode("utf-8"), self.number))
        self.broken(here or why)

    def broken(self, why: str) -> None:
        """
        Session: the stream was reset, or the link is over.
        """
        self._end(ConnectionLost(why), Unreachable(why))

    _why: str | None = None

    def _end(self, reason: Exception, error: PunchdError) -> None:
        if self.isOver:
            return
        self.isOver = True
        self._why = str(reason)
        self._stopTimer()
        self._unread.clear()
        self._queue.clear()
        self._queued = 0
        self._window.close()
        self._carrier.ended(self)
        if not self.opened.called:
            self.opened.errback(error)
        # Nobody may be waiting for it any more.
        self.opened.addErrback(_expected)
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        if self._protocol is not None:
            self._tellLost(reason)
        awaiting, self._awaitingEnd = self._awaitingEnd, []
        for ended in awaiting:
            ended.callback(None)

    def _tellLost(self, reason: Exception) -> None:
        protocol, self._protocol = self._protocol, None
        protocol.connectionLost(Failure(reason))

    def whenOver(self) -> Deferred[None]:
        """
        Fires when the stream is gone.
        """
        if self.isOver:
            return succeed(None)
        ended: Deferred[None] = Deferred()
        self._awaitingEnd.append(ended)
        return ended

    def _stopTimer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def getPeer(self) -> IAddress:
        return self._carrier.peer

    def getHost(self) -> IAddress:
        return self._carrier.host


def _expected(failure: Failure) -> None:
    failure.trap(PunchdError)
