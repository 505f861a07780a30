"""
Bytes from one transport to another and back, with half-close and back-pressure.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IPushProducer,
    IReactorTime,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.unix import Client as UNIXClient
from twisted.internet.unix import Server as UNIXServer
from twisted.python.failure import Failure
from zope.interface import implementer

from punchd.net.awake import Awake
from punchd.net.writing import dropUnsent, writeAtOnce, writeLargely

#: Seconds between looks whether a socket from which nothing is read was broken.
LOOKING = 1.0


def _nothing() -> None:
    pass


@implementer(IPushProducer)
@define(eq=False)
class _Source:
    """
    A transport as the producer of the other one: it is paused and resumed, but not stopped. A
    transport that is lost tells its producer to stop before it tells its protocol; what broke here
    would end in order there.

    The reactor does not look at a socket from which nothing is read, so this does: who has broken
    its connection shall not be kept for as long as the other side takes nothing.
    """

    _transport: Any
    _isPaused: bool = field(default=False, init=False)
    _looking: IDelayedCall | None = field(default=None, init=False)

    def pauseProducing(self) -> None:
        self._isPaused = True
        self._transport.pauseProducing()
        if self._looking is None and isinstance(self._transport, FileDescriptor):
            self._lookLater()

    def _lookLater(self) -> None:
        clock: IReactorTime = self._transport.reactor
        self._looking = clock.callLater(LOOKING, self._look)

    def _look(self) -> None:
        self._looking = None
        if not self._isPaused:
            return
        poller = select.poll()
        # Errors are told without being asked for.
        poller.register(self._transport.fileno(), 0)
        if any(events & select.POLLERR for _, events in poller.poll(0)):
            self._transport.abortConnection()
        else:
            self._lookLater()

    def resumeProducing(self) -> None:
        # The timer runs on: it is paused and resumed much more often than that.
        self._isPaused = False
        self._transport.resumeProducing()

    def stopProducing(self) -> None:
        pass

    def rest(self) -> None:
        """
        Look no more: the transport is gone.
        """
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None


@implementer(IHalfCloseableProtocol)
@define(eq=False)
class SpliceEnd(Protocol):
    """
    The protocol at one end of a splice. Made in pairs by L{spliceEnds}; each ends with its
    transport.

    What comes in here goes out there. The end of input here closes output there. When both ways are
    done the transport is closed; when this transport breaks, the other is aborted, so that a broken
    stream never looks like one that was finished.

    @ivar greeting: is said here before anything that comes in there.
    @ivar whenConnected: called when this end has its transport.
    @ivar whenLost: called when this end's transport is gone.
    @ivar splices: those that it belongs to, if anybody counts them.
    @ivar bytesIn: what came in here.
    """

    other: SpliceEnd = field(init=False, repr=False)
    transport: Any = field(default=None, init=False)
    greeting: bytes = field(default=b"", init=False, repr=False)
    whenConnected: Callable[[], None] = field(default=_nothing, init=False)
    whenLost: Callable[[], None] = field(default=_nothing, init=False)
    bytesIn: int = field(default=0, init=False)
    splices: Splices | None = field(default=None, init=False, repr=False)
    _waiting: list[bytes] = field(factory=list, init=False, repr=False)
    _inputEnded: bool = field(default=False, init=False)
    _outputEnded: bool = field(default=False, init=False)
    _gone: bool = field(default=False, init=False)
    _source: _Source | None = field(default=None, init=False, repr=False)

    def connectionMade(self) -> None:
        if self.splices is not None:
            self.splices.began(self)
        other = self.other
        if self.greeting and not other._gone:
            self.transport.write(self.greeting)
        if other._gone:
            self.transport.abortConnection()
        elif other.transport is None:
            # Nothing may pile up here while the other end is still being connected.
            self.transport.pauseProducing()
        else:
            for one, two in ((self, other), (other, self)):
                one._source = _Source(one.transport)
                two.transport.registerProducer(one._source, True)
            other.transport.resumeProducing()
            other._flush()
        self.whenConnected()

    def _flush(self) -> None:
        for data in self._waiting:
            self.other.transport.write(data)
        self._waiting.clear()
        if self._inputEnded:
            self._endOther()

    def dataReceived(self, data: bytes) -> None:
        self.bytesIn += len(data)
        if self.splices is not None and self.splices.awake is not None:
            self.splices.awake.came(self, self.other, len(data))
        if self.other.transport is None:
            # Pausing does not stop what was already read.
            self._waiting.append(data)
        else:
            writeAtOnce(self.other.transport, data)

    def readConnectionLost(self) -> None:
        self._inputEnded = True
        if self.other.transport is not None:
            self._endOther()
        self._closeIfDone()

    def writeConnectionLost(self) -> None:
        self._outputEnded = True
        self._closeIfDone()

    def _endOther(self) -> None:
        other = self.other
        if not other._outputEnded and not other._gone:
            other._outputEnded = True
            other.transport.unregisterProducer()
            other.transport.loseWriteConnection()
            if isinstance(other.transport, UNIXClient | UNIXServer):
                # Not in a later turn of the reactor: it takes a socket for lost, with all that can
                # still be read, that wants to write only and whose other end is gone by then.
                other.transport.doWrite()
            other._closeIfDone()

    def _closeIfDone(self) -> None:
        if self._inputEnded and self._outputEnded and not self._gone:
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._gone = True
        if self._source is not None:
            self._source.rest()
        dropUnsent(self.transport)
        self.whenLost()
        if self.splices is not None:
            self.splices.ended(self)
        finished = self._inputEnded and self._outputEnded
        other = self.other
        if other.transport is None or other._gone:
            return
        other.transport.unregisterProducer()
        if finished or (reason.check(ConnectionDone) and self._outputEnded):
            other.transport.loseConnection()
        else:
            other.transport.abortConnection()


def tuneLocal(transport: object, readSize: int) -> None:
    """
    Make the transport of a local connection ready to be spliced.

    @param readSize: bytes to read at a time, as many as suit the other end.
    """
    set_ = getattr(transport, "setTcpNoDelay", None)
    if set_ is not None:
        set_(True)
    if isinstance(transport, FileDescriptor):
        transport.bufferSize = readSize
    writeLargely(transport)
    if isinstance(transport, UNIXClient | UNIXServer):
        # Twisted sends nothing once more before it closes a direction. On a UNIX socket whose other
        # end is gone already, this fails, and what can still be read there would be lost.
        write: Callable[[bytes], int | Exception] = transport.writeSomeData
        setattr(transport, "writeSomeData", lambda data: write(data) if data else 0)  # noqa: B010


def spliceEnds() -> tuple[SpliceEnd, SpliceEnd]:
    """
    Two protocols; whatever transports they get are spliced.
    """
    one, two = SpliceEnd(), SpliceEnd()
    one.other, two.other = two, one
    return one, two


@define(eq=False)
class Splices:
    """
    The splices of somebody who wants to know when the last one is over, with every byte delivered.

    @ivar awake: keeps the process awake for what comes soon, if it shall be.
    """

    awake: Awake | None = None
    _ends: set[SpliceEnd] = field(factory=set, init=False)
    _waiting: list[Deferred[None]] = field(factory=list, init=False)

    def pair(self) -> tuple[SpliceEnd, SpliceEnd]:
        """
        As L{spliceEnds}.
        """
        one, two = spliceEnds()
        one.splices = two.splices = self
        return one, two

    def __len__(self) -> int:
        return len(self._ends)

    def began(self, end: SpliceEnd) -> None:
        """
        C{end} has its transport.
        """
        self._ends.add(end)

    def ended(self, end: SpliceEnd) -> None:
        """
        Its transport is gone.
        """
        self._ends.discard(end)
        if not self._ends:
            waiting, self._waiting = self._waiting, []
            for one in waiting:
                one.callback(None)

    def whenNone(self) -> Deferred[None]:
        """
        Fires when no end has a transport.
        """
        if not self._ends:
            return succeed(None)
        waiting: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting
