"""
Two sessions, and the paths between them, in memory: lossless as TCP, but cut, delayed and broken as
a test wishes.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from punchd.errors import PunchdError
from punchd.link.flow import Limits
from punchd.link.path import Path
from punchd.link.pump import TOGETHER
from punchd.link.session import Session
from punchd.link.stream import Stream
from punchd.values.peers import PeerID
from punchd.wire.frames import Join
from punchd.wire.versions import LINK_ALPN
from tests.unit.link.pairs import User

ALICE = PeerID(b"a" * 32)
BOB = PeerID(b"b" * 32)
LINK = b"l" * 16

#: Bytes that a transport holds before it pauses its producer, as Twisted's do.
FULL = 65536


class End:
    """
    One end of a wire: the transport of a path.

    @ivar sent: what is on its way to the other end.
    @ivar total: bytes that were written in all, C{writes}: in how many pieces.
    @ivar hurried: for how many seconds what comes was to be handed on at once, each time.
    @ivar isUnspaced: whether it was told that the other end is near.
    @ivar portion: bytes that may be written at once.
    @ivar slowness: seconds of C{clock} that a write takes.
    @ivar isReading: whether it takes what the other end has sent.
    """

    negotiatedProtocol = LINK_ALPN

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol
        self.other: End = self
        self.sent = bytearray()
        self.total = 0
        self.isClosing = False
        self.isAborted = False
        self.isLost = False
        self.writes = 0
        self.hurried: list[float] = []
        self.isUnspaced = False
        self.portion = TOGETHER
        self.clock: Clock | None = None
        self.slowness = 0.0
        self.isReading = True
        self.producer: Any = None
        self.isPaused = False

    def write(self, data: bytes) -> None:
        if self.isClosing or self.isLost:
            return
        if self.clock is not None:
            self.clock.rightNow += self.slowness
        self.sent += data
        self.total += len(data)
        self.writes += 1
        if len(self.sent) > FULL and self.producer is not None and not self.isPaused:
            self.isPaused = True
            self.producer.pauseProducing()

    def writeSequence(self, iovec: Iterable[bytes | memoryview]) -> None:
        self.write(b"".join(iovec))

    def hurry(self, seconds: float) -> None:
        self.hurried.append(seconds)

    def spaceLess(self) -> None:
        self.isUnspaced = True

    def pauseProducing(self) -> None:
        self.isReading = False

    def resumeProducing(self) -> None:
        self.isReading = True

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert self.producer is None
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def loseConnection(self) -> None:
        self.isClosing = True

    def abortConnection(self) -> None:
        self.isAborted = True

    def deliver(self, most: int) -> None:
        """
        Let the next bytes arrive at the other end.
        """
        taken = bytes(self.sent[:most])
        del self.sent[:most]
        if taken and not self.other.isLost:
            self.other.protocol.dataReceived(taken)
        if not self.sent and self.isPaused:
            self.isPaused = False
            if self.producer is not None:
                self.producer.resumeProducing()

    def lose(self, reason: Exception) -> None:
        if not self.isLost:
            self.isLost = True
            self.producer = None
            self.sent.clear()
            self.protocol.connectionLost(Failure(reason))


class Wire:
    """
    A connection, with a path at each end; each is proven at once.
    """

    def __init__(self, clock: Clock, one: Path, two: Path) -> None:
        self.ends = End(one), End(two)
        for end, other in zip(self.ends, reversed(self.ends), strict=True):
            end.other = other
        for end in self.ends:
            end.protocol.makeConnection(end)
            end.protocol.handshakeCompleted()

    @property
    def isOpen(self) -> bool:
        return not any(end.isLost for end in self.ends)

    def step(self, most: int = 1 << 30) -> bool:
        """
        Let bytes of both directions arrive; end the wire, if somebody has.

        @return: whether something has happened.
        """
        if not self.isOpen:
            return False
        if any(end.isAborted for end in self.ends):
            self.kill()
            return True
        happened = False
        for end in self.ends:
            if end.sent and end.other.isReading:
                end.deliver(most)
                happened = True
        if any(end.isClosing and not end.sent for end in self.ends):
            for end in self.ends:
                end.lose(ConnectionDone())
            return True
        return happened

    def kill(self) -> None:
        """
        Break the wire; what is on its way is lost.
        """
        for end in self.ends:
            end.lose(ConnectionLost())


class Owner:
    """
    Has a session, and remembers what it was told.

    @ivar paths: what the path was, each time it changed.
    """

    def __init__(self) -> None:
        self.asks: list[tuple[Stream, str]] = []
        self.paths: list[Any] = []
        self.answer: Any = lambda stream, service: None

    def asked(self, stream: Stream, service: str) -> None:
        self.asks.append((stream, service))
        self.answer(stream, service)

    def pathChanged(self, session: Session) -> None:
        self.paths.append(session.path)


class Link:
    """
    A link's two sessions: C{alice} has made it, C{bob} makes his when he hears of it.

    @ivar problems: why joins came to nothing.
    """

    def __init__(
        self, limits: Limits | None = None, bobsLimits: Limits | None = None, join: bool = True
    ) -> None:
        self.clock = Clock()
        self.aliceOwner, self.bobOwner = Owner(), Owner()
        limits = limits or Limits()
        self.alice = Session(self.clock, LINK, True, BOB, self.aliceOwner, limits)
        self.bob = Session(self.clock, LINK, False, ALICE, self.bobOwner, bobsLimits or limits)
        self.wires: list[Wire] = []
        self.problems: list[object] = []
        if join:
            self.connect()
            self.flush()

    def connect(self, byAlice: bool = True) -> Wire:
        """
        A new path, which C{alice} or C{bob} joins.
        """
        paths = Path(self.clock, lambda: None), Path(self.clock, lambda: None)
        paths[0].peerID, paths[1].peerID = BOB, ALICE
        wire = Wire(self.clock, *paths)
        self.wires.append(wire)
        mine, theirs = (0, 1) if byAlice else (1, 0)
        sessions = self.alice, self.bob

        def asked(path: Path, join: Join) -> None:
            sessions[theirs].joined(path, join)

        paths[theirs].onJoin = asked
        done: Deferred[None] = sessions[mine].join(paths[mine])
        done.addErrback(lambda failure: self.problems.append(failure.value))
        return wire

    @property
    def sessions(self) -> Sequence[Session]:
        return self.alice, self.bob

    def flush(self) -> None:
        """
        Deliver everything that is under way.
        """
        happens = True
        while happens:
            self.clock.advance(0)
            happens = sum(map(Wire.step, self.wires)) > 0
            self.wires = [wire for wire in self.wires if wire.isOpen]

    def advance(self, seconds: float, step: float = 0.1) -> None:
        """
        Let time go by, with everything delivered at once.
        """
        until = self.clock.seconds() + seconds
        self.flush()
        while self.clock.seconds() < until - 1e-9:
            self.clock.advance(min(step, until - self.clock.seconds()))
            self.flush()

    def open(self, service: str = "ssh") -> tuple[Stream, Stream, User, User]:
        """
        A stream from C{alice}, agreed on, with a user at each end.
        """
        stream = self.alice.openStream(service)
        self.flush()
        theirs, _ = self.bobOwner.asks[-1]
        theirs.agree()
        users = User(), User()
        stream.carry(users[0])
        theirs.carry(users[1])
        self.flush()
        return stream, theirs, *users

    def end(self) -> None:
        """
        End it, and expect that nothing is left to be done.
        """
        self.alice.abort("done")
        self.flush()
        self.bob.abort("done")
        self.flush()
        self.advance(5, 1)
        assert self.clock.getDelayedCalls() == []
        assert not self.wires


def errorOf(deferred: Deferred[Any]) -> list[PunchdError]:
    """
    Where the error of C{deferred} will be.
    """
    errors: list[PunchdError] = []

    def failed(failure: Failure) -> None:
        failure.trap(PunchdError)
        assert isinstance(failure.value, PunchdError)
        errors.append(failure.value)

    deferred.addErrback(failed)
    return errors
