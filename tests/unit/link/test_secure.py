"""
Tests for L{punchd.link.secure}: real TLS, on connections in memory and on loopback.
"""

import ctypes
import gc
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IHandshakeListener,
    IPushProducer,
    ISystemHandle,
    ITransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.internet.tcp import Connection
from twisted.internet.testing import MemoryReactor
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from punchd.errors import NotTrusted
from punchd.identity.tls import ConnectionCreator, Verdict, anybody, onlyPeer
from punchd.link import records
from punchd.link.portable import PortableRecords, hasInside
from punchd.link.records import MOST_CIPHERTEXT, MOST_PLAINTEXT, PORTION, RESTING
from punchd.link.secure import SecureConnection
from punchd.net import unsent
from punchd.wire.versions import LINK_ALPN
from tests.unit.link.pairs import ALICE, BOB, CONTEXTS
from tests.unit.net.memory import MemoryTransport, Pair, lost


@contextmanager
def pyOpenSSL(isFamiliar: bool) -> Iterator[None]:
    """
    With one whose insides are known, or not.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "isFamiliar", isFamiliar)
        # Memory of one kind is of no use for the other.
        patch.setattr(records, "_spaces", [])
        yield


@pytest.fixture(autouse=True, scope="module")
def isFamiliar(request: pytest.FixtureRequest) -> Iterator[bool]:
    """
    Whether pyOpenSSL is one whose insides are known.
    """
    isSo = getattr(request, "param", True)
    with pyOpenSSL(isSo):
        yield isSo


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    # Hypothesis draws it itself, and some tests are about one kind.
    marks = metafunc.definition.iter_markers("parametrize")
    isSaid = any(mark.args[0] == "isFamiliar" for mark in marks)
    if not (isSaid or hasattr(metafunc.function, "hypothesis")):
        metafunc.parametrize(
            "isFamiliar", [True, False], ids=["insides", "portable"], indirect=True, scope="module"
        )


@implementer(IHandshakeListener)
class User(Protocol):
    """
    Whoever has the plaintext, and remembers what happened, in order.
    """

    transport: Any

    def __init__(self) -> None:
        self.happened: list[str] = []
        self.pieces: list[bytes] = []
        self.onShaken: Callable[[], None] = lambda: None
        self.reason: Failure | None = None
        self.early = b""

    @property
    def received(self) -> bytes:
        return b"".join(self.pieces)

    def connectionMade(self) -> None:
        self.happened.append("made")
        if self.early:
            self.transport.write(self.early)

    def handshakeCompleted(self) -> None:
        self.happened.append("shaken")
        self.onShaken()

    def dataReceived(self, data: bytes) -> None:
        if self.happened[-1] != "data":
            self.happened.append("data")
        # It may be a view of memory that is used again.
        self.pieces.append(bytes(data))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.happened.append("lost")
        self.reason = reason


def makeSide(
    clock: Clock, isClient: bool, user: User, verdict: Verdict, secure: bool = True
) -> Any:
    """
    One end of TLS: ours, or Twisted's.
    """
    identity = ALICE if isClient else BOB
    creator = ConnectionCreator(CONTEXTS[identity.peerID], lambda: verdict)
    if secure:
        return SecureConnection(clock, creator, isClient, user)
    factory = TLSMemoryBIOFactory(creator, isClient, Factory.forProtocol(lambda: user), clock)
    return factory.buildProtocol(None)


class Ends:
    """
    Client and server on one connection in memory.
    """

    def __init__(
        self,
        secure: tuple[bool, bool] = (True, True),
        early: tuple[bytes, bytes] = (b"", b""),
        greet: bool = True,
        verdicts: tuple[Verdict, Verdict] | None = None,
    ) -> None:
        self.clock = Clock()
        self.alice, self.bob = User(), User()
        self.alice.early, self.bob.early = early
        verdicts = verdicts or (Verdict(anybody), Verdict(anybody))
        self.client = makeSide(self.clock, True, self.alice, verdicts[0], secure[0])
        self.server = makeSide(self.clock, False, self.bob, verdicts[1], secure[1])
        self.wire = Pair(self.clock, self.client, self.server, greet=greet)

    def flush(self) -> None:
        self.wire.advance(0)

    def take(self, end: MemoryTransport) -> bytes:
        """
        What C{end} has written and nobody has got yet; now nobody will.
        """
        taken, end.stream = b"".join(end.stream), []
        return taken


def test_itIsATransport() -> None:
    ends = Ends()
    for interface in (ITransport, IConsumer, IPushProducer, ISystemHandle):
        verifyObject(interface, ends.client)


#: Either end may be Twisted's.
PAIRS = pytest.mark.parametrize(
    "secure", [(True, True), (True, False), (False, True)], ids=["ours", "client", "server"]
)


@PAIRS
def test_bytesGoBothWaysAfterTheHandshake(secure: tuple[bool, bool]) -> None:
    ends = Ends(secure)
    data = bytes(range(256)) * 1000
    ends.client.write(data)
    ends.client.writeSequence([b"", b"end"])
    ends.server.write(data[::-1])
    ends.flush()
    assert ends.bob.received == data + b"end"
    assert ends.alice.received == data[::-1]
    assert ends.alice.happened == ends.bob.happened == ["made", "shaken", "data"]


@PAIRS
def test_theOtherEndIsKnown(secure: tuple[bool, bool]) -> None:
    verdicts = Verdict(anybody), Verdict(anybody)
    ends = Ends(secure, verdicts=verdicts)
    assert [verdict.peerID for verdict in verdicts] == [BOB.peerID, ALICE.peerID]
    assert ends.client.negotiatedProtocol == ends.server.negotiatedProtocol == LINK_ALPN


@PAIRS
def test_whatIsWrittenBeforeTheHandshakeIsSentAfterIt(secure: tuple[bool, bool]) -> None:
    ends = Ends(secure, early=(b"early" * 9000, b"bird"))
    ends.flush()
    assert (ends.bob.received, ends.alice.received) == (b"early" * 9000, b"bird")


def test_emptyWritesSendNothing() -> None:
    ends = Ends()
    before = len(ends.wire.one.sent)
    ends.client.write(b"")
    ends.client.writeSequence([])
    assert len(ends.wire.one.sent) == before


def test_oneReadIsHandedOnAtOnce() -> None:
    ends = Ends()
    ends.client.write(bytes(PORTION - 1000))
    ends.bob.transport.dataReceived(ends.take(ends.wire.one))
    assert [len(piece) for piece in ends.bob.pieces] == [PORTION - 1000]


@pytest.mark.parametrize("length", [1, MOST_PLAINTEXT, PORTION // 8, PORTION])
def test_piecesAreWrittenTogether(length: int) -> None:
    ends = Ends()
    pieces = [bytes([number]) * length for number in range(8)]
    ends.client.writeSequence(memoryview(piece) for piece in pieces)
    ends.flush()
    assert ends.bob.received == b"".join(pieces)


def test_whatComesLaterGoesThroughNewBuffers() -> None:
    ends = Ends()
    for length in (PORTION, 1, PORTION):
        ends.client.write(bytes(length))
        sent = ends.take(ends.wire.one)
        ends.server.dataReceived(sent[:-1])
        # Both rest, one in the middle of a record.
        ends.clock.advance(RESTING)
        ends.clock.advance(RESTING)
        assert ends.clock.getDelayedCalls() == []
        ends.server.dataReceived(sent[-1:])
    assert ends.bob.received == bytes(2 * PORTION + 1)


def test_aWriteFillsRecords() -> None:
    ends = Ends()
    before = len(ends.wire.one.sent)
    ends.client.write(bytes(4 * MOST_PLAINTEXT))
    # A head, the type inside, and the tag of AES-GCM or ChaCha20-Poly1305 (RFC 8446, 5.2).
    assert len(ends.wire.one.sent) - before == 4 * (_HEAD + MOST_PLAINTEXT + 1 + 16)


#: Bytes before what is in a record.
_HEAD = 5

CUTS = st.lists(st.integers(1, 40_000), max_size=30)


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    pieces = []
    for length in cuts:
        pieces.append(data[:length])
        data = data[length:]
    return [*pieces, data]


@settings(deadline=None)
@given(
    st.lists(st.binary(max_size=50).map(lambda some: some * 900), max_size=6), CUTS, st.booleans()
)
def test_anyCuttingGivesTheSame(writes: list[bytes], cuts: list[int], isKnown: bool) -> None:
    with pyOpenSSL(isKnown):
        checkCutting(writes, cuts)


def checkCutting(writes: list[bytes], cuts: list[int]) -> None:
    ends = Ends()
    for data in writes:
        ends.client.write(data)
    scratch = bytearray(400_000)
    for piece in cut(ends.take(ends.wire.one), cuts):
        # As a view of memory that is used again.
        scratch[: len(piece)] = piece
        ends.server.dataReceived(memoryview(scratch)[: len(piece)])
        scratch[: len(piece)] = bytes(len(piece))
    assert ends.bob.received == b"".join(writes)


@pytest.mark.parametrize("length", [1, 2, 5, 1000])
def test_anyCuttingOfTheHandshakeDoes(length: int) -> None:
    ends = Ends(greet=False, early=(b"from alice", b"from bob"))
    for _ in range(5000):
        for one, protocol in ((ends.wire.one, ends.server), (ends.wire.two, ends.client)):
            sent = ends.take(one)
            if sent:
                protocol.dataReceived(sent[:length])
                one.stream = [sent[length:]]
    assert (ends.bob.received, ends.alice.received) == (b"from alice", b"from bob")


@settings(deadline=None)
@given(st.binary(min_size=_HEAD, max_size=500), st.integers(0, 3000), CUTS, st.booleans())
def test_garbageEndsTheConnection(garbage: bytes, at: int, cuts: list[int], isKnown: bool) -> None:
    with pyOpenSSL(isKnown):
        checkGarbage(garbage, at, cuts)


def checkGarbage(garbage: bytes, at: int, cuts: list[int]) -> None:
    ends = Ends()
    ends.client.write(bytes(1000))
    sent = ends.take(ends.wire.one)
    sent = sent[:at] + garbage + bytes(MOST_CIPHERTEXT)
    for piece in cut(sent, cuts):
        ends.server.dataReceived(piece)
    ends.server.connectionLost(lost())
    assert ends.bob.received in (b"", bytes(1000))
    assert ends.bob.happened[-1] == "lost"
    assert ends.bob.reason is not None
    assert ends.bob.reason.check(SSL.Error, ConnectionLost)


@given(st.binary(min_size=_HEAD, max_size=300))
@settings(deadline=None)
def test_garbageInsteadOfAHandshakeDoesToo(garbage: bytes) -> None:
    user = User()
    server = makeSide(Clock(), False, user, Verdict(anybody))
    transport = MemoryTransport(server, True)
    server.makeConnection(transport)
    server.dataReceived(garbage + bytes(MOST_CIPHERTEXT))
    assert transport.disconnecting
    server.connectionLost(lost())
    assert user.happened == ["made", "lost"]


def test_whatIsNoRecordIsNotWaitedFor() -> None:
    ends = Ends()
    ends.server.dataReceived(b"\x17\x03\x03\xff\xff")
    assert ends.wire.two.disconnecting


def test_aChangedByteIsNoticed() -> None:
    ends = Ends()
    ends.client.write(b"a" * 5000)
    sent = bytearray(ends.take(ends.wire.one))
    sent[2000] ^= 1
    ends.server.dataReceived(bytes(sent))
    ends.flush()
    assert ends.bob.received == b""
    assert ends.bob.reason is not None
    assert ends.bob.reason.check(SSL.Error)


def test_aRefusedEndIsToldWhy() -> None:
    nobody = onlyPeer(ALICE.peerID, "bob")
    verdicts = Verdict(nobody), Verdict(anybody)
    ends = Ends(verdicts=verdicts)
    assert isinstance(verdicts[0].refusal, NotTrusted)
    assert not ends.wire.isOpen
    assert ends.alice.reason is not None
    assert ends.alice.reason.check(SSL.Error)


# Ending, as Twisted's TLS does it.


def endings(secure: tuple[bool, bool], end: str) -> list[tuple[Any, list[str], bytes]]:
    """
    What both users saw when the client's connection ended in some way.
    """
    ends = Ends(secure)
    ends.client.write(b"last words")
    if end == "truncated":
        ends.flush()
        ends.wire.one.loseConnection()
    elif end == "both":
        ends.client.loseConnection()
        ends.server.loseConnection()
    elif end == "aborted by the other":
        ends.flush()
        ends.server.abortConnection()
    elif end == "written after":
        ends.client.loseConnection()
        ends.client.write(b"too late")
    else:
        getattr(ends.client, end)()
    ends.flush()
    ends.clock.advance(0)
    ends.flush()
    assert not ends.wire.isOpen
    assert ends.clock.getDelayedCalls() == []
    for user in (ends.alice, ends.bob):
        user.transport.write(b"after the end")
        user.transport.loseConnection()
    return [
        (user.reason and user.reason.type, user.happened, user.received)
        for user in (ends.alice, ends.bob)
    ]


@pytest.mark.parametrize(
    "end",
    [
        *("loseConnection", "abortConnection", "stopProducing"),
        *("truncated", "both", "aborted by the other", "written after"),
    ],
)
@PAIRS
def test_itEndsAsTwistedsDoes(secure: tuple[bool, bool], end: str) -> None:
    if end == "stopProducing":
        seen, expected = endings((True, secure[1]), end), endings((False, False), "loseConnection")
    else:
        seen, expected = endings(secure, end), endings((False, False), end)
    assert seen == expected


def test_anEndInOrderIsNoLoss() -> None:
    reasons = [reason for reason, _, _ in endings((True, True), "loseConnection")]
    assert reasons == [ConnectionDone, ConnectionDone]


def test_aFINAloneIsALoss() -> None:
    [_, (reason, _, received)] = endings((True, True), "truncated")
    assert (reason, received) == (ConnectionLost, b"last words")


def test_losingAConnectionBeforeTheHandshakeAbortsIt() -> None:
    ends = Ends(greet=False)
    ends.client.loseConnection()
    assert ends.wire.one.isAborted


def test_whatWasWrittenEarlyIsSentBeforeTheEnd() -> None:
    ends = Ends(greet=False, early=(b"question", b""))
    ends.client.loseConnection()
    ends.flush()
    assert ends.bob.received == b"question"
    assert ends.bob.reason is not None
    assert ends.bob.reason.check(ConnectionDone)


def test_nothingIsHandedOnAfterAnAbort() -> None:
    ends = Ends()
    ends.client.write(b"x" * 50_000)
    sent = ends.take(ends.wire.one)
    ends.server.abortConnection()
    ends.server.dataReceived(sent)
    ends.flush()
    assert ends.bob.happened == ["made", "shaken", "lost"]


# Producing and consuming.


def test_whatCameWhilePausedIsHeld() -> None:
    ends = Ends()
    ends.server.pauseProducing()
    assert ends.wire.two.isPaused
    ends.client.write(b"1" * 50_000)
    sent = ends.take(ends.wire.one)
    ends.server.dataReceived(sent[:30_000])
    ends.server.dataReceived(sent[30_000:])
    assert ends.bob.received == b""
    ends.server.resumeProducing()
    assert ends.bob.received == b"", "not from inside of resumeProducing"
    ends.client.write(b"2")
    ends.flush()
    assert ends.bob.received == b"1" * 50_000 + b"2"


def test_whoPausesAtTheEndOfTheHandshakeGetsNothing() -> None:
    ends = Ends(greet=False, early=(b"early", b""))
    ends.bob.onShaken = ends.server.pauseProducing
    ends.flush()
    assert ends.bob.happened == ["made", "shaken"]
    ends.server.resumeProducing()
    ends.flush()
    assert ends.bob.received == b"early"


def test_whatIsHeldComesBeforeTheEnd() -> None:
    ends = Ends()
    ends.server.pauseProducing()
    ends.client.write(b"held")
    ends.server.dataReceived(ends.take(ends.wire.one))
    ends.server.connectionLost(lost())
    assert ends.bob.happened == ["made", "shaken", "data", "lost"]


def test_resumingAndLosingLeavesNothingToBeDone() -> None:
    ends = Ends()
    ends.server.pauseProducing()
    ends.client.write(b"held")
    ends.server.dataReceived(ends.take(ends.wire.one))
    ends.server.resumeProducing()
    ends.server.connectionLost(lost())
    assert ends.bob.received == b"held"
    assert ends.clock.getDelayedCalls() == []


class Producer:
    """
    A push producer, or a pull producer of a few pieces.
    """

    def __init__(self, transport: Any = None, pieces: int = 0) -> None:
        self.told: list[str] = []
        self._transport = transport
        self._pieces = pieces

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")
        if self._pieces:
            self._pieces -= 1
            self._transport.write(b"piece")
            if not self._pieces:
                self._transport.unregisterProducer()

    def stopProducing(self) -> None:
        self.told.append("stop")


def test_aProducerIsToldByTheTransport() -> None:
    ends = Ends()
    producer = Producer()
    ends.client.registerProducer(producer, True)
    told: Any = ends.wire.one.producer
    told.pauseProducing()
    told.resumeProducing()
    assert producer.told == ["pause", "resume"]
    with pytest.raises(RuntimeError):
        ends.client.registerProducer(Producer(), True)
    ends.client.unregisterProducer()
    ends.client.unregisterProducer()
    assert ends.wire.one.producer is None


def test_aSlowConnectionTakesLessAtOnce() -> None:
    clock, producer = Clock(), Producer()
    sides = [makeSide(clock, isClient, User(), Verdict(anybody)) for isClient in (True, False)]
    handles = socket.socketpair()
    reactor: Any = MemoryReactor()
    for side, handle in zip(sides, handles, strict=True):
        handle.setblocking(False)
        transport = Connection(handle, side, reactor)
        transport.connected = True
        side.makeConnection(transport)
    for side in sides * 3:
        side.transport.doRead()
    client = sides[0]
    assert client.portion == unsent.MOST
    client.registerProducer(producer, True)
    assert client.portion == unsent.FIRST
    for _ in range(9):
        client.transport.producer.pauseProducing()
        clock.advance(2 * unsent.SLOW)
        client.transport.producer.resumeProducing()
    assert client.portion == unsent.LEAST
    client.unregisterProducer()
    assert client.portion == unsent.MOST
    for side in sides:
        side.transport.connectionLost(lost())


def test_aProducerWaitsForTheHandshake() -> None:
    ends = Ends(greet=False)
    producer = Producer()
    ends.client.registerProducer(producer, True)
    assert producer.told == ["pause"]
    ends.flush()
    assert producer.told == ["pause", "resume"]


def test_aProducerMayComeWithTheHandshake() -> None:
    ends = Ends(greet=False)
    producer = Producer()
    ends.alice.onShaken = lambda: ends.client.registerProducer(producer, True)
    ends.flush()
    assert ends.wire.one.producer is producer
    assert producer.told == []


def test_anEndMayComeWithTheHandshake() -> None:
    ends = Ends(greet=False)
    ends.alice.onShaken = ends.client.loseConnection
    ends.flush()
    assert not ends.wire.isOpen
    assert [end.reason and end.reason.type for end in (ends.alice, ends.bob)] == [
        ConnectionDone,
        ConnectionDone,
    ]


def test_aPullProducerIsPulled() -> None:
    ends = Ends(greet=False)
    ends.client.registerProducer(Producer(ends.client, 3), False)
    ends.flush()
    assert ends.bob.received == b"piece" * 3


def test_aProducerMayGoOnAfterTheEndWasWanted() -> None:
    ends = Ends()
    ends.client.registerProducer(Producer(), True)
    ends.client.loseConnection()
    ends.client.write(b"still")
    ends.flush()
    assert ends.wire.isOpen
    ends.client.unregisterProducer()
    ends.flush()
    assert ends.bob.received == b"still"
    assert not ends.wire.isOpen


def test_aProducerStopsWhenThereIsNoHandshake() -> None:
    ends = Ends(greet=False)
    producer = Producer()
    ends.client.registerProducer(producer, True)
    ends.client.connectionLost(lost())
    late = Producer()
    ends.client.registerProducer(late, True)
    assert (producer.told, late.told) == (["pause", "stop"], ["stop"])


class Heap:
    """
    What OpenSSL asked malloc for since this was made, as far as the heap tells it (mallinfo2(3)).
    """

    def __init__(self) -> None:
        self._before = self._inUse()

    @staticmethod
    def _inUse() -> int:
        class MallInfo(ctypes.Structure):
            _fields_ = [
                (name, ctypes.c_size_t)
                for name in (
                    *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
                    *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
                )
            ]

        mallinfo2 = ctypes.CDLL(None).mallinfo2
        mallinfo2.restype = MallInfo
        info = mallinfo2()
        return int(info.uordblks) + int(info.hblkhd)

    @property
    def grown(self) -> int:
        gc.collect()
        return self._inUse() - self._before


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="glibc >= 2.33 tells it")
# Nobody can make pyOpenSSL's buffers anew from outside.
@pytest.mark.parametrize("isFamiliar", [True], ids=["insides"], indirect=True)
def test_whatMuchDataLeavesBehindIsSmall(isFamiliar: bool) -> None:
    made = [Ends() for _ in range(20)]
    heap = Heap()
    for ends in made:
        for writer, reader, written in (
            (ends.client, ends.server, ends.wire.one),
            (ends.server, ends.client, ends.wire.two),
        ):
            for length in (1, 1_000_000, 300_000):
                writer.write(bytes(length))
                reader.dataReceived(ends.take(written))
            written.sent = b""
        ends.alice.pieces.clear()
        ends.bob.pieces.clear()
        ends.clock.advance(RESTING)
        ends.clock.advance(RESTING)
    # Stock TLS keeps as much as was ever written or read at once.
    assert heap.grown / len(made) / 2 < 10_000


# A pyOpenSSL that is another one inside.


class Insides:
    """
    Something of pyOpenSSL's that lacks a name.
    """

    def __init__(self, whole: object, missing: str) -> None:
        self._whole = whole
        self._missing = missing

    def __getattr__(self, name: str) -> Any:
        if name == self._missing:
            raise AttributeError(name)
        return getattr(self._whole, name)


def test_thePyOpenSSLThatIsInstalledIsKnown() -> None:
    assert hasInside(SSL, records.Records)


@pytest.mark.parametrize("missing", ["_lib", "_ffi"])
def test_onePrivateNameOfItMayBeMissing(missing: str) -> None:
    assert not hasInside(Insides(SSL, missing), records.Records)


@pytest.mark.parametrize("missing", ["SSL_read", "SSL_write", "BIO_read", "SSL_set_bio"])
def test_oneOfOpenSSLsFunctionsMayBeMissing(missing: str) -> None:
    other = Insides(SSL, "")
    vars(other)["_lib"] = Insides(vars(SSL)["_lib"], missing)
    assert not hasInside(other, records.Records)


@pytest.mark.parametrize("missing", ["_ssl", "_into_ssl", "_from_ssl"])
def test_aConnectionMayBeAnotherOneInside(missing: str) -> None:
    other = Insides(SSL, "")
    vars(other)["Connection"] = lambda *arguments: Insides(SSL.Connection(*arguments), missing)
    assert not hasInside(other, records.Records)


def test_whatIsMissingIsDoneWithout(isFamiliar: bool) -> None:
    ends = Ends()
    kind = records.Records if isFamiliar else PortableRecords
    assert type(ends.client._records) is kind
