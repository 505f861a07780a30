"""
TCP in memory: iosim's, with what punchd needs of TCP beside bytes.
"""

from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.test.iosim import FakeTransport, IOPump, connect

from punchd.values.addresses import makeAddress

HERE = makeAddress("198.51.100.1", 1001)
THERE = makeAddress("203.0.113.2", 2002)


class MemoryTransport(FakeTransport):
    """
    One end of a TCP connection in memory: breaks at once when it is aborted, closes its halves one
    by one, and delivers nothing while it is paused.

    @ivar sent: all that went out.
    @ivar isPaused: whether the protocol wants no more for now.
    @ivar isAborted: whether this end broke the connection.
    """

    disconnectReason: Any = ConnectionDone()
    negotiatedProtocol: bytes | None = None

    def __init__(self, protocol: Any, isServer: bool, host: Any = HERE, peer: Any = THERE) -> None:
        super().__init__(protocol, isServer, host, peer)
        self.sent = b""
        self.isPaused = False
        self.isAborted = False
        self.options: list[tuple[int, ...]] = []
        self.other: MemoryTransport | None = None
        self._finWanted = False
        self._finSent = False
        self._held: list[bytes] = []

    def getHandle(self) -> Any:
        """
        What socket options are set on.
        """
        return self

    def setsockopt(self, *option: int) -> None:
        self.options.append(option)

    def write(self, data: bytes) -> None:
        if self.disconnecting or self._finWanted:
            return
        self.sent += data
        super().write(data)

    def getOutBuffer(self) -> bytes | None:
        if self.other is not None and self.other.isPaused:
            return None
        buffer: bytes | None = super().getOutBuffer()
        if buffer is None and self._finWanted and not self._finSent:
            self._finSent = True
            other = self.other
            assert other is not None
            if IHalfCloseableProtocol.providedBy(other.protocol):
                other.protocol.readConnectionLost()
            else:
                other.loseConnection()
        return buffer

    def loseWriteConnection(self) -> None:
        if not self._finWanted:
            self._finWanted = True
            IHalfCloseableProtocol(self.protocol).writeConnectionLost()

    def abortConnection(self) -> None:
        if self.disconnecting and self.disconnected:
            return
        self.isAborted = True
        self.stream = []
        self.disconnectReason = ConnectionAborted()
        if self.other is not None:
            self.other.stream = []
            if not self.other.isAborted:
                self.other.disconnectReason = ConnectionLost()
        self.disconnecting = True

    def pauseProducing(self) -> None:
        self.isPaused = True

    def resumeProducing(self) -> None:
        self.isPaused = False


class Pair:
    """
    Two protocols on one connection: C{one} has dialled, C{two} has accepted.
    """

    def __init__(self, clock: Clock, one: Any, two: Any, greet: bool = True) -> None:
        self.clock = clock
        self.one = MemoryTransport(one, False, HERE, THERE)
        self.two = MemoryTransport(two, True, THERE, HERE)
        self.one.other, self.two.other = self.two, self.one
        self.pump: IOPump = connect(two, self.two, one, self.one, greet=False, clock=clock)
        if greet:
            self.flush()

    def flush(self) -> None:
        """
        Deliver everything that is under way.
        """
        self.pump.flush()

    def advance(self, seconds: float) -> None:
        """
        Let time go by.
        """
        self.flush()
        self.clock.advance(seconds)
        self.flush()

    @property
    def isOpen(self) -> bool:
        return not (self.one.disconnected or self.two.disconnected)


def lost(reason: type[Exception] = ConnectionDone) -> Failure:
    """
    A reason for C{connectionLost}.
    """
    return Failure(reason())
