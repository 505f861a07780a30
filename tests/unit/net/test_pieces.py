"""
Tests for L{punchd.net.pieces}.
"""

import socket
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IPushProducer, ITransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.internet.tcp import Connection
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from punchd.cli import copying
from punchd.link.occasion import Occasion
from punchd.net.pieces import BROKEN, CLOSED, END, PIECE_HEAD, UNREAD, OutInPieces, PieceStream
from tests.unit.link.pairs import User
from tests.unit.net.memory import HERE, THERE, MemoryTransport, Pair, lost


class Plain(Protocol):
    """
    Cannot tell the end of input from the end.
    """

    lost: Failure | None = None

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


class Ends:
    """
    Both ends of a stream, each with a user.
    """

    def __init__(self, one: Any = User, two: Any = User) -> None:
        self.clock = Clock()
        self.streams = [PieceStream(peer, host) for peer, host in ((THERE, HERE), (HERE, THERE))]
        self.users = [one(), two()]
        self.pair = Pair(self.clock, self.streams[0], self.streams[1])
        for stream, user in zip(self.streams, self.users, strict=True):
            stream.carry(user)
        self.pair.flush()

    def ended(self, *reasons: type[Exception]) -> bool:
        self.pair.flush()
        assert not self.clock.getDelayedCalls()
        return all(
            user.lost is not None and user.lost.check(reason) is not None
            for user, reason in zip(self.users, reasons, strict=True)
        )


def test_itIsATransport() -> None:
    stream = PieceStream(THERE, HERE)
    for interface in (ITransport, IConsumer, IPushProducer):
        verifyObject(interface, stream)
    assert (stream.getPeer(), stream.getHost()) == (THERE, HERE)


@pytest.fixture
def ends() -> Ends:
    return Ends()


def test_eachPieceStandsBehindItsLength(ends: Ends) -> None:
    ends.streams[0].write(b"one")
    ends.streams[0].write(b"")
    ends.streams[0].writeSequence([b"t", b"wo"])
    ends.streams[0].loseWriteConnection()
    ends.pair.flush()
    assert ends.pair.one.sent == b"\0\0\0\x03one\0\0\0\x03two\0\0\0\0"
    assert (ends.users[1].received, ends.users[1].inputEnded) == (b"onetwo", True)


def test_whatCameBeforeThereIsAUserIsNotLost() -> None:
    clock = Clock()
    one, two = PieceStream(THERE, HERE), PieceStream(HERE, THERE)
    pair = Pair(clock, one, two)
    one.carry(User())
    one.write(b"early")
    two.dataReceived(b"\0\0\0\x03one")
    user = User()
    two.carry(user)
    pair.flush()
    assert user.received == b"oneearly"


def test_whoPausesWhenConnectedGetsNothingYet() -> None:
    class Paused(User):
        def connectionMade(self) -> None:
            self.transport.pauseProducing()

    two = PieceStream(HERE, THERE)
    pair = Pair(Clock(), PieceStream(THERE, HERE), two)
    two.dataReceived(b"\0\0\0\x03one")
    user = Paused()
    two.carry(user)
    pair.flush()
    assert user.received == b""
    two.resumeProducing()
    assert user.received == b"one"


def test_bothDirectionsEndInOrder(ends: Ends) -> None:
    ends.streams[0].loseWriteConnection()
    ends.pair.flush()
    ends.streams[1].write(b"answer")
    ends.streams[1].loseWriteConnection()
    assert ends.ended(ConnectionDone, ConnectionDone)
    assert ends.users[0].received == b"answer"


def test_aUserThatKnowsNoHalvesClosesWhenItsInputEnds() -> None:
    ends = Ends(User, Plain)
    ends.streams[0].loseWriteConnection()
    assert ends.ended(ConnectionDone, ConnectionDone)


def test_abortingBreaksIt(ends: Ends) -> None:
    ends.streams[0].write(b"half of it")
    ends.streams[0].abortConnection()
    assert ends.ended(ConnectionAborted, ConnectionLost)
    assert ends.streams[0].disconnecting


def test_aSocketThatEndsByItselfWasBroken(ends: Ends) -> None:
    ends.pair.one.loseConnection()
    assert ends.ended(ConnectionLost, ConnectionLost)


def test_whoClosesReadsNothingMoreAndSaysSo(ends: Ends) -> None:
    unread: list[None] = []
    ends.streams[1].whenUnread = lambda: unread.append(None)
    ends.streams[0].write(b"the last word")
    ends.streams[0].loseConnection()
    ends.pair.flush()
    assert (ends.users[1].received, ends.users[1].inputEnded) == (b"the last word", True)
    assert unread == [None]
    ends.streams[1].write(b"are you there?")
    ends.streams[1].loseWriteConnection()
    assert ends.ended(ConnectionDone, ConnectionDone)
    assert ends.users[0].received == b""


def test_closingWaitsForTheProducer(ends: Ends) -> None:
    ends.streams[0].registerProducer(User(), True)
    ends.streams[0].loseConnection()
    ends.streams[0].write(b"not yet")
    ends.pair.flush()
    assert not ends.users[1].inputEnded
    ends.streams[0].unregisterProducer()
    ends.pair.flush()
    assert (ends.users[1].received, ends.users[1].inputEnded) == (b"not yet", True)
    ends.streams[1].loseConnection()
    assert ends.ended(ConnectionDone, ConnectionDone)


def test_moreAfterTheEndIsAViolation(ends: Ends) -> None:
    ends.streams[1].dataReceived(b"\0\0\0\0\0\0\0\x01x")
    assert ends.users[1].received == b""
    assert ends.ended(ConnectionLost, ConnectionAborted)


def test_aReasonComesTooLate(ends: Ends) -> None:
    ends.streams[1].agree()
    ends.streams[1].refuse("no")
    assert ends.ended(ConnectionLost, ConnectionAborted)


def test_whoIsCarriedAfterTheEndHearsOfIt() -> None:
    stream = PieceStream(THERE, HERE)
    stream.makeConnection(MemoryTransport(stream, False))
    over: list[None] = []
    stream.whenOver().addCallback(over.append)
    stream.connectionLost(lost())
    user = User()
    stream.carry(user)
    assert user.lost is not None
    assert over == [None]
    assert stream.whenOver().called


def test_aProducerIsToldToPauseByTheSocket(ends: Ends) -> None:
    producer = User()
    ends.streams[0].registerProducer(producer, True)
    assert ends.pair.one.producer is producer
    ends.streams[0].unregisterProducer()
    assert ends.pair.one.producer is None


class Choosy(User):
    """
    Pauses after every piece.
    """

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self.transport.pauseProducing()


def test_whoPausesGetsNothingMore() -> None:
    stream = PieceStream(THERE, HERE)
    transport = MemoryTransport(stream, False)
    stream.makeConnection(transport)
    user = Choosy()
    stream.carry(user)
    stream.dataReceived(b"\0\0\0\x01a\0\0\0\x02bc\0\0\0\x00")
    seen = []
    for _ in range(4):
        seen.append((bytes(user.received), user.inputEnded, transport.isPaused))
        stream.resumeProducing()
    assert seen == [
        (b"a", False, True),
        (b"abc", False, True),
        (b"abc", True, False),
        (b"abc", True, False),
    ]


@st.composite
def cut(draw: st.DrawFn) -> tuple[list[bytes], Iterator[bytes]]:
    """
    Pieces, and what carries them, cut anywhere.
    """
    pieces = draw(st.lists(st.binary(min_size=1, max_size=20), max_size=8))
    whole = b"".join(len(piece).to_bytes(4, "big") + piece for piece in pieces) + bytes(4)
    cuts = draw(st.lists(st.integers(0, len(whole)), max_size=10).map(sorted))
    return pieces, (whole[a:b] for a, b in pairwise([0, *cuts, len(whole)]))


@given(cut(), st.sampled_from([User, Choosy]))
def test_itDoesNotMatterHowPiecesAreCut(
    made: tuple[list[bytes], Iterator[bytes]], kind: Any
) -> None:
    pieces, parts = made
    stream = PieceStream(THERE, HERE)
    stream.makeConnection(MemoryTransport(stream, False))
    user = kind()
    stream.carry(user)
    for part in parts:
        stream.dataReceived(part)
    while not user.inputEnded:
        stream.resumeProducing()
    assert user.received == b"".join(pieces)


@given(st.binary(max_size=100))
def test_garbageBreaksNothing(data: bytes) -> None:
    stream = PieceStream(THERE, HERE)
    stream.makeConnection(MemoryTransport(stream, False))
    stream.carry(User())
    stream.dataReceived(data)
    stream.connectionLost(lost())


class Going:
    """
    A stream that is passed on.
    """

    why = "no \N{SNOWMAN}"

    def __init__(self) -> None:
        self.hasFinished = False
        self.over: Occasion[None] = Occasion()

    def whenOver(self) -> Deferred[None]:
        return self.over.wait()


class Written:
    """
    A connection to somebody who reads nothing, over which only what is written is in pieces.
    """

    def __init__(self) -> None:
        self.here, self.there = socket.socketpair()
        self.here.setblocking(False)
        self.reactor: Any = MemoryReactorClock()
        self.stream = Going()
        self.plain = Plain()
        self.transport: Any = Connection(self.here, self.plain, self.reactor)
        self.transport.connected = 1
        self.pieces = OutInPieces(self.transport, self.stream)

    @property
    def isAborted(self) -> bool:
        return self.plain.lost is not None and bool(self.plain.lost.check(ConnectionAborted))

    def fill(self) -> None:
        with suppress(BlockingIOError):
            while True:
                self.here.send(bytes(65536))

    def read(self) -> bytes:
        read = b""
        self.there.settimeout(0.01)
        with suppress(TimeoutError):
            while part := self.there.recv(65536):
                read += part
        return read


@pytest.fixture
def written() -> Iterator[Written]:
    made = Written()
    yield made
    made.here.close()
    made.there.close()


def test_whyItBrokeIsSaidBehindAllElse(written: Written) -> None:
    written.pieces.write(b"data")
    written.transport.doWrite()
    written.pieces.abortConnection()
    assert written.read() == b"\0\0\0\4data" + BROKEN + "no \N{SNOWMAN}".encode()
    written.transport.connectionLost(Failure(ConnectionDone()))
    written.pieces.lost()
    assert written.reactor.getDelayedCalls() == []


@pytest.mark.parametrize("hasFinished", [True, False])
def test_itIsClosedWhenTheStreamIsOverAndSaysHow(written: Written, hasFinished: bool) -> None:
    written.pieces.loseWriteConnection()
    written.transport.doWrite()
    written.pieces.loseConnection()
    assert not written.transport.disconnecting
    written.stream.hasFinished = hasFinished
    # Whoever has the stream says so, too.
    written.pieces.loseConnection()
    written.stream.over.come(None)
    assert written.transport.disconnecting
    written.pieces.abortConnection()
    how = CLOSED if hasFinished else BROKEN + "no \N{SNOWMAN}".encode()
    assert written.read() == END + how
    written.pieces.lost()
    assert written.reactor.getDelayedCalls() == []


def test_aConnectionThatIsGoneHearsNothingMoreOfTheStream(written: Written) -> None:
    written.pieces.loseConnection()
    written.pieces.lost()
    written.stream.over.come(None)
    assert written.read() == b""
    assert written.reactor.getDelayedCalls() == []


def test_whoDoesNotReadWhyIsNotWaitedForForEver(written: Written) -> None:
    written.fill()
    written.pieces.abortConnection()
    written.reactor.advance(UNREAD - 0.1)
    assert not written.isAborted
    written.reactor.advance(0.2)
    written.reactor.advance(0)
    assert written.isAborted


def test_theCommandKnowsTheSameMarks() -> None:
    """
    It has its own, so that it need not wait for Twisted.
    """
    assert copying._HEAD == PIECE_HEAD
    assert copying._BROKEN.to_bytes(PIECE_HEAD, "big") == BROKEN
    assert copying._CLOSED.to_bytes(PIECE_HEAD, "big") == CLOSED
