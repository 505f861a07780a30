"""
One stream of a link, as a Twisted transport.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IHalfCloseableProtocol,
    IProtocol,
    IPushProducer,
    ITransport,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from punchd.errors import ProtocolViolation, PunchdError, Refused, Unreachable
from punchd.link.answer import Answer
from punchd.link.carrier import Carrier
from punchd.link.flow import EARLY
from punchd.link.input import Input
from punchd.link.occasion import Occasion
from punchd.link.output import Output
from punchd.link.patience import Patience
from punchd.link.telling import tell
from punchd.wire.frames import (
    Kind,
    packFrame,
    packOpen,
    packOpened,
)

#: Seconds until the callee must have connected the service, or refused: its own connection to it
#: has the usual 30.
OPENING = 40.0

#: Seconds that a stream whose other end knows that it was closed here waits for it to agree.
CLOSING = 10.0

#: Bytes that are taken for nobody, so that who sends them may come to read what was written to it
#: before the stream was closed: as many as may be under way. Who sends more breaks the stream.
FOR_NOBODY = 16 * 1024 * 1024

_NOBODY = "nobody listens any more"


@implementer(ITransport, IConsumer, IPushProducer)
class Stream:
    """
    Made by its L{Session<punchd.link.session.Session>}. The end that was asked for the service
    calls L{agree} or L{refuse}; either end gives the stream a protocol with L{carry}: from then on
    it is that protocol's transport. It ends with C{ConnectionDone} when both ends have closed it
    and each has all that the other has written; else with C{ConnectionLost}, and at the end that
    has broken it with C{ConnectionAborted}.

    @ivar number: in the link.
    @ivar service: what was asked for.
    @ivar isOpener: whether this end asked.
    @ivar isReady: whether the session has it among those with something to send.
    @ivar sentInRounds: bytes that it has sent, as L{punchd.link.turns} reckons.
    @ivar why: what has ended it, for people; empty until then.
    @ivar hasFinished: whether it has ended in order.
    """

    # Twisted's transports have it, and some protocols look at it.
    disconnecting = False

    def __init__(self, carrier: Carrier, number: int, service: str, isOpener: bool) -> None:
        self.number = number
        self.service = service
        self.isOpener = isOpener
        self.isOver = False
        self.isReady = False
        self.sentInRounds = 0
        self._answer = Answer()
        self._carrier = carrier
        # What it is called now; it may have another name when the next stream is made.
        self._peer = carrier.peer
        # The end that opens may send at once, and receive what comes after the answer.
        self._maySend = isOpener
        self._mayReceive = not isOpener
        # An IProtocol, perhaps an IHalfCloseableProtocol.
        self._protocol: Any = None
        self._patience = Patience(carrier, self._break)
        self._gone: Occasion[None] = Occasion()
        self._input = Input(carrier, number, self.abortConnection)
        self._output = Output(carrier.clock, number, self.abortConnection)
        # How it ends: what was told to the protocol, what the other end knows, what is wanted.
        self._inputEnded = False
        self._finArrived = False
        self._isClosing = False
        self._nobodyListens = False
        self._forNobody = 0
        self.why = ""
        self.hasFinished = False

    # Opening.

    def ask(self) -> None:
        """
        Session: this end opens the stream.
        """
        window = self._input.window.open(self._carrier.clock.seconds())
        self._carrier.send(packOpen(self.number, window, self.service))
        self._patience.begin(OPENING, "the other end neither agreed nor refused")

    def asked(self, window: int) -> None:
        """
        Session: the other end opens it, and grants C{window} bytes.
        """
        self._output.credit.extend(max(window, EARLY))

    def agree(self) -> None:
        """
        The service is connected.
        """
        if self.isOver or self._answer.isYes or self.isOpener:
            return
        self._maySend = self._mayReceive = True
        window = self._input.window.open(self._carrier.clock.seconds())
        self._carrier.send(packOpened(self.number, window))
        self._answer.yes()
        self._wake()

    def refuse(self, why: str) -> None:
        """
        There will be no stream; C{why} is for the person at the other end.
        """
        if not (self.isOver or self._answer.isYes or self.isOpener):
            self._carrier.send(packFrame(Kind.REFUSED, why.encode("utf-8"), self.number))
            self._end(ConnectionLost(why), Refused(why))

    def agreed(self, window: int) -> None:
        """
        Session: the other end agrees.

        @raise ProtocolViolation: when it was not asked, or has said so before.
        """
        self._answered("OPENED")
        self._maySend = self._mayReceive = True
        self._awaitEnd()
        self._output.credit.extend(max(window, EARLY))
        self._answer.yes()
        self._wake()

    def refused(self, why: str) -> None:
        """
        Session: the other end refuses.

        @raise ProtocolViolation: as L{agreed}.
        """
        self._answered("REFUSED")
        self._end(ConnectionLost(why), Refused(why))

    def _answered(self, what: str) -> None:
        if self._answer.isYes or not self.isOpener:
            raise ProtocolViolation(f"{what} where none is allowed")
        self._patience.end()

    @property
    def opened(self) -> Deferred[None]:
        """
        Fires with C{None} when the service is connected; fails with L{Refused} when it is not, with
        L{Unreachable} when the stream breaks before.
        """
        return self._answer.wait()

    def carry(self, protocol: IProtocol) -> None:
        """
        Be C{protocol}'s transport. It gets all that has come so far, and what comes.
        """
        self._protocol = protocol
        self._input.isPaused = False
        protocol.makeConnection(self)
        if self.isOver:
            self._tellLost(ConnectionLost(self.why))
        elif not self._input.isPaused:
            self.resumeProducing()

    # Reading.

    def dataReceived(self, data: bytes) -> None:
        """
        Session: bytes of the stream.

        @raise ProtocolViolation: when they may not come.
        """
        input_ = self._input
        if input_.hasEnded or not self._mayReceive:
            raise ProtocolViolation("DATA where none is allowed")
        input_.window.receive(len(data))
        if not self._isClosing:
            input_.receive(data, self._protocol)
        elif self._output.hasEnded or self._forNobody > FOR_NOBODY:
            self._break(_NOBODY)
        else:
            self._nobodyListens = True
            self._forNobody += len(data)
            input_.consumed(len(data))

    @property
    def bytesIn(self) -> int:
        """
        Bytes that have come.
        """
        return self._input.window.received

    def finReceived(self) -> None:
        """
        Session: no more will come.

        @raise ProtocolViolation: when that was said before, or may not be yet.
        """
        if self._input.hasEnded or not self._mayReceive:
            raise ProtocolViolation("FIN where none is allowed")
        self._input.hasEnded = True
        self._tellInputEnded()

    def _tellInputEnded(self) -> None:
        if self._inputEnded or not self._input.hasEnded or self.isOver or self._nobodyListens:
            return
        if not self._isClosing and (self._protocol is None or not self._input.isRead):
            return
        self._inputEnded = True
        if not IHalfCloseableProtocol.providedBy(self._protocol):
            self.loseConnection()
        elif not tell(self._protocol.readConnectionLost):
            self.abortConnection()
        self._endIfDone()

    def pauseProducing(self) -> None:
        """
        Deliver nothing until L{resumeProducing}; the other end may fill the window.
        """
        self._input.isPaused = True

    def resumeProducing(self) -> None:
        """
        Deliver again.
        """
        self._input.isPaused = False
        if self._protocol is not None:
            self._input.deliver(self._protocol)
            self._tellInputEnded()

    def stopProducing(self) -> None:
        self.loseConnection()

    # Writing.

    def write(self, data: bytes) -> None:
        self._output.write(data)
        self._wake()
        self._output.pauseIfFull()

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        self.write(b"".join(iovec))

    @property
    def bytesOut(self) -> int:
        """
        Bytes that were written.
        """
        return self._output.written

    def _wake(self) -> None:
        if not self.isReady and self.hasSomething:
            self._carrier.ready(self)

    @property
    def queued(self) -> int:
        """
        Session: bytes that wait to be sent.
        """
        return self._output.queued

    @property
    def hasSomething(self) -> bool:
        """
        Session: whether there is something that may be sent now.
        """
        return self._maySend and self._output.hasSomething

    def take(self, pieces: list[bytes | memoryview], most: int, full: int) -> int:
        """
        Session: add C{most} frames, or what there is, and perhaps the last one, to C{pieces}.

        @param full: the most bytes of the stream in one frame.
        @return: their bytes.
        """
        return self._output.take(pieces, most, full)

    @property
    def hasSentEnd(self) -> bool:
        """
        Session: whether that was the last one.
        """
        return self._output.hasEnded

    def credited(self, limit: int) -> None:
        """
        Session: the other end grants more.
        """
        self._output.credit.extend(limit)
        if not self.isReady and self.hasSomething:
            self._carrier.readySoon(self)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Let C{producer} be told when the stream cannot take more.
        """
        if self.isOver:
            producer.stopProducing()
        else:
            self._output.register(producer, streaming)

    def unregisterProducer(self) -> None:
        self._output.unregister()
        self._wake()

    # Ending.

    def loseWriteConnection(self) -> None:
        """
        Nothing more will be written; reading goes on.
        """
        self._output.isEnding = True
        self._wake()

    def loseConnection(self) -> None:
        """
        Close, after what was written; and when the producer, if there is one, is done. What the
        other end still sends breaks the stream, when all is written, or when it is very much.
        """
        if self.isOver or self._isClosing:
            return
        self._isClosing = self.disconnecting = True
        # What comes now, or was not read, is for nobody; but the other end will be told so only
        # after it has got all that was written.
        self._nobodyListens = self._input.drop()
        self.loseWriteConnection()
        if self._output.hasEnded and self._nobodyListens:
            self._break(_NOBODY)
        self._tellInputEnded()
        self._awaitEnd()

    def finLeft(self) -> None:
        """
        Session: this end's end is on its way.
        """
        if self._nobodyListens:
            self._break(_NOBODY)
            return
        isHeard = not self._isClosing and IHalfCloseableProtocol.providedBy(self._protocol)
        if isHeard and not tell(self._protocol.writeConnectionLost):
            self.abortConnection()

    def finArrived(self) -> None:
        """
        Session: the other end has all that was written, and knows that it is all.
        """
        self._finArrived = True
        self._endIfDone()
        self._awaitEnd()

    def _awaitEnd(self) -> None:
        if self._finArrived and self._isClosing and not self.isOver:
            self._patience.begin(CLOSING, "the other end did not agree to close")

    def _endIfDone(self) -> None:
        if self._finArrived and self._inputEnded and not self.isOver:
            self.hasFinished = True
            self._end(ConnectionDone(), Unreachable("the stream was closed"))

    def abortConnection(self) -> None:
        """
        Break the stream: the other end sees a reset, never an orderly end.
        """
        if not self.isOver:
            self.disconnecting = True
            self._reset("the other side broke the stream")
            aborted = ConnectionAborted()
            self._end(aborted, Unreachable(str(aborted)))

    def _break(self, why: str) -> None:
        self._reset(why)
        self.broken(why)

    def _reset(self, why: str) -> None:
        self._carrier.send(packFrame(Kind.RESET, why.encode("utf-8"), self.number))

    def broken(self, why: str) -> None:
        """
        Session: the stream was reset, or the link is over.
        """
        self._end(ConnectionLost(why), Unreachable(why))

    @property
    def isComplete(self) -> bool:
        """
        Session: whether both ends have everything, though perhaps nobody has read it yet.
        """
        return self._finArrived and self._input.hasEnded

    def linkEnded(self, why: str) -> None:
        """
        Session: the link is over. Who reads slowly still gets what is here, and then the end.
        """
        if self.isComplete:
            self._carrier.ended(self)
        else:
            self.broken(why)

    def _end(self, reason: Exception, error: PunchdError) -> None:
        if self.isOver:
            return
        self.isOver = True
        self.why = str(error)
        self._patience.end()
        self._input.stop()
        self._carrier.ended(self)
        self._answer.no(error)
        self._output.stop()
        self._tellLost(reason)
        self._gone.come(None)

    def _tellLost(self, reason: Exception) -> None:
        self._protocol, protocol = None, self._protocol
        if protocol is not None:
            tell(protocol.connectionLost, Failure(reason))

    def whenOver(self) -> Deferred[None]:
        """
        Fires when the stream is gone.
        """
        return self._gone.wait()

    def getPeer(self) -> IAddress:
        return self._peer

    def getHost(self) -> IAddress:
        return self._carrier.host
