"""
Tests for L{punchd.link.stream}: what its users may rely on.
"""

from collections.abc import Callable
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IPushProducer, ITransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.basic import FileSender
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from punchd.errors import Refused, Unreachable
from punchd.link.flow import EARLY, Limits
from punchd.link.input import SMALL as PIECE
from punchd.link.output import QUEUED
from punchd.link.pulling import PullAdapter
from punchd.link.pump import FEW, REQUEST, SMALL, TOGETHER, TURN, WAITING
from punchd.link.restraint import LATE, LONGEST
from punchd.link.stream import CLOSING, FOR_NOBODY, OPENING, Stream
from punchd.values.peers import PeerAddress
from punchd.wire.frames import FULL_DATA, HEAD_LENGTH, MAX_DATA, FrameReader, Kind
from tests.unit.link.pairs import Streaming, User
from tests.unit.link.wires import BOB, End, Link, errorOf

BOTH_WAYS = pytest.mark.parametrize("callerDials", [True, False], ids=["called", "reversed"])


def test_aStreamIsATransport() -> None:
    link = Link()
    mine, _, _, _ = link.open()
    for interface in (ITransport, IConsumer, IPushProducer):
        verifyObject(interface, mine)
    link.end()


def test_aStreamKnowsWhoIsAtItsEnds() -> None:
    link = Link()
    mine, _, _, _ = link.open()
    assert mine.getPeer() == PeerAddress("", BOB)
    assert isinstance(mine.getHost(), PeerAddress)
    link.end()


# Over real TLS.


@BOTH_WAYS
def test_bytesGoBothWays(callerDials: bool) -> None:
    streaming = Streaming(callerDials)
    streaming.opened.write(b"question")
    streaming.answered.write(b"answer")
    streaming.flush()
    assert streaming.calleeUser.received == b"question"
    assert streaming.callerUser.received == b"answer"
    streaming.end()


def test_aWriteOfAnySizeArrives() -> None:
    streaming = Streaming()
    data = bytes(range(256)) * 10_000
    streaming.opened.write(data)
    streaming.opened.writeSequence([data, b"", b"end"])
    streaming.flush()
    assert streaming.calleeUser.received == data + data + b"end"
    streaming.end()


def test_whenBothWaysHaveEndedTheStreamIsDoneAndTheLinkGoesOn() -> None:
    streaming = Streaming()
    streaming.opened.loseWriteConnection()
    streaming.answered.loseWriteConnection()
    streaming.flush()
    for user in (streaming.callerUser, streaming.calleeUser):
        assert user.lost is not None
        assert user.lost.check(ConnectionDone)
    assert streaming.wire.isOpen
    assert not streaming.callerSession.streams
    streaming.end()


def test_aLostConnectionIsNotTheEndOfItsStreams() -> None:
    streaming = Streaming()
    streaming.wire.one.abortConnection()
    streaming.flush()
    assert streaming.callerSession.path is None
    assert streaming.callerUser.lost is None
    streaming.end()


WRITES = st.lists(
    st.tuples(st.booleans(), st.sampled_from(["write", "flush", "end"]), st.binary(max_size=50)),
    max_size=25,
)


@given(WRITES)
def test_everyOrderOfWritesAndEndsKeepsAllBytes(steps: list[tuple[bool, str, bytes]]) -> None:
    streaming = Streaming()
    sent = {True: b"", False: b""}
    ended = {True: False, False: False}
    for isCaller, what, data in steps:
        stream = streaming.opened if isCaller else streaming.answered
        if what == "write" and not ended[isCaller]:
            stream.write(data)
            sent[isCaller] += data
        elif what == "end" and not ended[isCaller]:
            stream.loseWriteConnection()
            ended[isCaller] = True
        else:
            streaming.flush()
    streaming.flush()
    assert streaming.calleeUser.received == sent[True]
    assert streaming.callerUser.received == sent[False]
    assert streaming.calleeUser.inputEnded == ended[True]
    assert streaming.callerUser.inputEnded == ended[False]
    assert streaming.opened.isOver is all(ended.values())
    streaming.end()


# Opening.


def test_theStreamOpensWhenTheOtherEndAgrees() -> None:
    link = Link()
    stream = link.alice.openStream("ssh")
    opened: list[None] = []
    stream.opened.addCallback(opened.append)
    link.flush()
    theirs, service = link.bobOwner.asks[0]
    assert service == "ssh"
    assert theirs.service == "ssh"
    assert opened == []
    theirs.agree()
    link.flush()
    assert opened == [None]
    stream.opened.addCallback(opened.append)
    assert opened == [None, None]
    link.end()


def test_bothEndsOpenStreams() -> None:
    link = Link()
    link.aliceOwner.answer = lambda stream, service: stream.agree()
    link.bobOwner.answer = lambda stream, service: stream.agree()
    ours = [link.alice.openStream("ssh") for _ in range(3)]
    theirs = [link.bob.openStream("web") for _ in range(3)]
    link.flush()
    assert [stream.number for stream in ours] == [1, 3, 5]
    assert [stream.number for stream in theirs] == [2, 4, 6]
    assert [service for _, service in link.aliceOwner.asks] == ["web"] * 3
    link.end()


def test_theReasonOfARefusalReachesTheOpenerWhoHasSentAlready() -> None:
    link = Link()
    stream, user = link.alice.openStream("ssh"), User()
    errors = errorOf(stream.opened)
    stream.carry(user)
    stream.write(b"x" * 100_000)
    link.flush()
    link.bobOwner.asks[0][0].refuse("no such service\x1b[2J")
    link.flush()
    assert [str(error) for error in errors] == ["no such service?[2J"]
    assert isinstance(errors[0], Refused)
    assert user.lost is not None
    assert user.lost.check(ConnectionLost)
    assert [str(error) for error in errorOf(stream.opened)] == ["no such service?[2J"]
    assert not link.alice.streams
    assert not link.bob.streams
    link.end()


def test_earlyDataIsNotLostNorMoreThanIsAllowed() -> None:
    link = Link()
    stream = link.alice.openStream("ssh")
    data = bytes(range(250)) * 400
    stream.write(data)
    stream.loseWriteConnection()
    link.flush()
    theirs, user = link.bobOwner.asks[0][0], User()
    assert theirs.bytesIn == EARLY
    theirs.agree()
    theirs.carry(user)
    link.flush()
    assert user.received == data
    assert user.inputEnded
    link.end()


def test_whatIsWrittenBeforeAgreeingWaits() -> None:
    link = Link()
    stream, user = link.alice.openStream("ssh"), User()
    stream.carry(user)
    link.flush()
    theirs = link.bobOwner.asks[0][0]
    theirs.write(b"SSH-2.0-")
    link.flush()
    assert user.received == b""
    theirs.agree()
    link.flush()
    assert user.received == b"SSH-2.0-"
    link.end()


def test_whatComesBeforeItIsCarriedIsNotLost() -> None:
    link = Link()
    stream = link.alice.openStream("ssh")
    link.flush()
    theirs = link.bobOwner.asks[0][0]
    theirs.agree()
    theirs.carry(User())
    theirs.write(b"SSH-2.0-")
    link.flush()
    user = User()
    stream.carry(user)
    assert user.received == b"SSH-2.0-"
    link.end()


def test_aStreamThatIsNeitherAgreedToNorRefusedBreaks() -> None:
    link = Link()
    errors = errorOf(link.alice.openStream("ssh").opened)
    link.advance(OPENING, 1)
    assert [type(error) for error in errors] == [Unreachable]
    assert not link.bob.streams
    link.end()


def test_withoutAPathNobodyLosesPatience() -> None:
    link = Link()
    stream = link.alice.openStream("ssh")
    errors = errorOf(stream.opened)
    link.wires[0].kill()
    link.advance(3 * OPENING, 1)
    assert errors == []
    link.connect()
    link.flush()
    link.bobOwner.asks[0][0].agree()
    link.flush()
    assert not stream.isOver
    link.end()


# Ending.


class Simple(Protocol):
    """
    A user that knows nothing of half-close.
    """

    lost: Failure | None = None

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


def test_oneWayCanEndWhileTheOtherGoesOn() -> None:
    link = Link()
    mine, theirs, myUser, theirUser = link.open()
    mine.write(b"question")
    mine.loseWriteConnection()
    mine.write(b"too late")
    link.flush()
    theirs.write(b"answer")
    link.flush()
    assert theirUser.received == b"question"
    assert theirUser.inputEnded
    assert myUser.outputEnded
    assert myUser.received == b"answer"
    assert not myUser.inputEnded
    link.end()


def test_whoDoesNotKnowHalfCloseIsClosedAtTheEndOfInput() -> None:
    link = Link()
    stream = link.alice.openStream("ssh")
    user, simple = User(), Simple()
    stream.carry(user)
    link.flush()
    theirs = link.bobOwner.asks[0][0]
    theirs.agree()
    theirs.carry(simple)
    stream.write(b"x")
    stream.loseWriteConnection()
    link.flush()
    assert simple.lost is not None
    assert simple.lost.check(ConnectionDone)
    assert user.lost is not None
    assert user.lost.check(ConnectionDone)
    link.end()


def test_closingDeliversWhatWasWritten() -> None:
    link = Link()
    mine, _, _, theirUser = link.open()
    mine.write(b"x" * 1_000_000)
    mine.loseConnection()
    link.flush()
    assert len(theirUser.received) == 1_000_000
    assert theirUser.inputEnded
    link.end()


def test_whoTalksToAClosedStreamLearnsThatNobodyListensAfterWhatWasWritten() -> None:
    link = Link()
    mine, theirs, myUser, theirUser = link.open()
    mine.write(b"x" * 1_000_000)
    mine.loseConnection()
    theirs.write(b"are you there?")
    link.flush()
    assert len(theirUser.received) == 1_000_000
    for user in (myUser, theirUser):
        assert user.lost is not None
        assert user.lost.check(ConnectionLost)
    link.end()


def test_whoPausesWhenConnectedGetsNothingYet() -> None:
    link = Link()
    mine = link.alice.openStream("ssh")
    link.flush()
    [(theirs, _)] = link.bobOwner.asks
    theirs.agree()
    mine.write(b"hello")
    link.flush()

    class Paused(User):
        def connectionMade(self) -> None:
            self.transport.pauseProducing()

    user = Paused()
    theirs.carry(user)
    assert user.received == b""
    theirs.resumeProducing()
    assert user.received == b"hello"
    link.end()


@pytest.mark.parametrize("isRead", [True, False], ids=["read", "unread"])
def test_whenBothCloseWithMoreThanMayBeSentNeitherWaitsForEver(isRead: bool) -> None:
    link = Link()
    mine, theirs, myUser, theirUser = link.open()
    for stream in (mine, theirs):
        if not isRead:
            stream.pauseProducing()
        stream.write(b"x" * 1_000_000)
    if not isRead:
        link.flush()
    for stream in (mine, theirs):
        stream.loseConnection()
    link.flush()
    for user in (myUser, theirUser):
        assert user.lost is not None
        assert user.lost.check(ConnectionLost)
    link.end()


def test_whoSendsOnAndOnToAClosedStreamAndReadsNothingBreaksIt() -> None:
    link = Link()
    mine, theirs, myUser, theirUser = link.open()
    theirs.pauseProducing()
    mine.write(b"x" * 1_000_000)
    mine.loseConnection()
    link.flush()
    piece = b"y" * 1_000_000
    while mine.bytesIn + len(piece) <= FOR_NOBODY:
        theirs.write(piece)
        link.flush()
        assert theirUser.lost is None
    theirs.write(2 * piece)
    link.flush()
    for user in (myUser, theirUser):
        assert user.lost is not None
        assert "nobody listens" in user.lost.getErrorMessage()
    link.end()


def test_whoHasMissedSomethingIsNotToldThatItWasAll() -> None:
    link = Link()
    mine, theirs, myUser, _ = link.open()
    link.wires[0].ends[0].isPaused = True
    sender = link.alice._paths.sender
    assert sender is not None
    sender.pauseProducing()
    mine.write(b"x")
    mine.loseConnection()
    theirs.write(b"important")
    theirs.loseWriteConnection()
    link.clock.advance(0)
    link.wires[0].ends[1].deliver(1000)
    assert not myUser.inputEnded
    sender.resumeProducing()
    link.flush()
    assert myUser.lost is not None
    assert myUser.lost.check(ConnectionLost)
    assert not myUser.inputEnded
    link.end()


def test_whatWasNotReadWhenItWasClosedBreaksIt() -> None:
    link = Link()
    mine, theirs, _, theirUser = link.open()
    mine.pauseProducing()
    theirs.write(b"important")
    link.flush()
    mine.loseConnection()
    link.flush()
    assert theirUser.lost is not None
    assert theirUser.lost.check(ConnectionLost)
    link.end()


def test_whoDoesNotAgreeToCloseIsResetAfterAWhile() -> None:
    link = Link()
    mine, _, myUser, theirUser = link.open()
    mine.loseConnection()
    link.advance(CLOSING - 1, 1)
    assert not mine.isOver
    link.advance(2, 1)
    assert myUser.lost is not None
    assert theirUser.lost is not None
    assert theirUser.lost.check(ConnectionLost)
    link.end()


def test_aBreakIsNoOrderlyEndAndHasAReason() -> None:
    link = Link()
    mine, _, myUser, theirUser = link.open()
    mine.abortConnection()
    mine.abortConnection()
    link.flush()
    for user in (myUser, theirUser):
        assert user.lost is not None
        assert user.lost.check(ConnectionLost)
        assert "the other side broke the stream" in user.lost.getErrorMessage() or user is myUser
    assert not link.bob.streams
    link.end()


def test_whoeverWaitsForTheEndHearsOfIt() -> None:
    link = Link()
    mine, _, _, _ = link.open()
    ended: list[None] = []
    mine.whenOver().addCallback(ended.append)
    assert ended == []
    mine.abortConnection()
    assert ended == [None]
    mine.whenOver().addCallback(ended.append)
    assert ended == [None, None]
    link.end()


def test_aUserThatComesTooLateIsToldAtOnce() -> None:
    link = Link()
    stream, user = link.alice.openStream("ssh"), User()
    stream.abortConnection()
    stream.carry(user)
    assert user.lost is not None
    assert user.lost.check(ConnectionLost)
    link.end()


def test_aProtocolThatFailsEndsItsStreamOnly(
    flushLoggedErrors: Callable[..., list[Failure]],
) -> None:
    link = Link()
    mine, theirs, myUser, theirUser = link.open()
    other, _, _, otherUser = link.open()

    def fail(data: bytes) -> None:
        raise ValueError("a bug")

    theirUser.dataReceived = fail  # type: ignore[method-assign]
    mine.write(b"x")
    other.write(b"y")
    link.flush()
    assert theirs.isOver
    assert len(flushLoggedErrors(ValueError)) == 1
    assert myUser.lost is not None
    assert otherUser.lost is None
    link.end()


@pytest.mark.parametrize(
    "method", ["readConnectionLost", "writeConnectionLost", "connectionLost", "stopProducing"]
)
def test_howeverAUserFailsItEndsItsStreamOnly(
    method: str, flushLoggedErrors: Callable[..., list[Failure]]
) -> None:
    link = Link()
    mine, theirs, myUser, theirUser = link.open()
    other, _, _, otherUser = link.open()
    over: list[None] = []
    theirs.whenOver().addCallback(over.append)

    def fail(reason: object = None) -> None:
        raise ValueError("a bug")

    if method == "stopProducing":
        producer = Producer()
        theirs.registerProducer(producer, True)
        setattr(producer, method, fail)
    else:
        setattr(theirUser, method, fail)
    if method == "readConnectionLost":
        mine.loseWriteConnection()
    elif method == "writeConnectionLost":
        theirs.loseWriteConnection()
    else:
        mine.abortConnection()
    other.write(b"y")
    link.flush()
    assert len(flushLoggedErrors(ValueError)) == 1
    assert over == [None]
    assert myUser.lost is not None
    assert myUser.lost.check(ConnectionDone) is None
    assert (otherUser.received, otherUser.lost) == (b"y", None)
    assert link.alice.isConnected
    link.end()


# Producers.


class Producer:
    """
    Remembers what it was told.
    """

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


def test_aProducerThatFailsEndsItsStreamOnly(
    flushLoggedErrors: Callable[..., list[Failure]],
) -> None:
    link = Link()
    mine, _, myUser, _ = link.open()
    other, _, _, otherUser = link.open()
    producer = Producer()

    def fail() -> None:
        raise ValueError("a bug")

    producer.resumeProducing = fail  # type: ignore[method-assign]
    mine.registerProducer(producer, True)
    sender = link.alice._paths.sender
    assert sender is not None
    sender.pauseProducing()
    other.write(b"y")
    mine.write(b"x" * (QUEUED + 1))
    sender.resumeProducing()
    link.flush()
    assert len(flushLoggedErrors(ValueError)) == 1
    assert producer.told == ["pause", "stop"]
    assert myUser.lost is not None
    assert otherUser.lost is None
    assert otherUser.received == b"y"
    link.end()


def test_aProducerIsPausedForCreditAndResumedWithIt() -> None:
    link = Link()
    mine, theirs, _, _ = link.open()
    theirs.pauseProducing()
    producer = Producer()
    mine.registerProducer(producer, True)
    mine.write(bytes(Limits().firstWindow))
    link.flush()
    assert producer.told[-1:] in ([], ["resume"])
    mine.write(bytes(QUEUED))
    assert producer.told[-1:] in ([], ["resume"])
    mine.write(b"x")
    assert producer.told[-1] == "pause"
    link.flush()
    assert producer.told[-1] == "pause"
    theirs.resumeProducing()
    link.flush()
    assert producer.told[-1] == "resume"
    link.end()


def test_aProducerIsPausedByThePath() -> None:
    link = Link()
    mine, _, _, theirUser = link.open()
    producer = Producer()
    mine.registerProducer(producer, True)
    for _ in range(5):
        mine.write(bytes(50_000))
    assert producer.told == ["pause"]
    link.flush()
    assert producer.told[-1] == "resume"
    assert len(theirUser.received) == 250_000
    link.end()


def test_aProducerIsPausedWhileThereIsNoPath() -> None:
    link = Link()
    mine, _, _, _ = link.open()
    link.wires[0].kill()
    producer = Producer()
    mine.registerProducer(producer, True)
    mine.write(bytes(QUEUED + 1))
    assert producer.told == ["pause"]
    link.connect()
    link.flush()
    assert producer.told == ["pause", "resume"]
    link.end()


def test_aProducerIsStoppedAtTheEnd() -> None:
    link = Link()
    mine, _, _, _ = link.open()
    producer = Producer()
    mine.registerProducer(producer, True)
    mine.abortConnection()
    assert producer.told == ["stop"]
    late = Producer()
    mine.registerProducer(late, True)
    assert late.told == ["stop"]
    link.end()


def test_thereIsOneProducer() -> None:
    link = Link()
    mine, _, _, _ = link.open()
    mine.registerProducer(Producer(), True)
    with pytest.raises(RuntimeError):
        mine.registerProducer(Producer(), True)
    link.end()


def test_closingWaitsForTheProducer() -> None:
    link = Link()
    mine, _, _, theirUser = link.open()
    mine.registerProducer(Producer(), True)
    mine.loseConnection()
    mine.write(b"the rest")
    link.flush()
    assert theirUser.received == b"the rest"
    assert not theirUser.inputEnded
    mine.unregisterProducer()
    link.flush()
    assert [theirUser.inputEnded] == [True]
    link.end()


@pytest.mark.parametrize("length", [0, 1, 5_000_000])
def test_aPullProducerIsAskedUntilItIsDone(length: int) -> None:
    link = Link()
    mine, theirs, _, theirUser = link.open()
    data = bytes(range(250)) * (length // 250) + bytes(length % 250)
    done: list[object] = []
    FileSender().beginFileTransfer(BytesIO(data), mine).addCallback(done.append)
    theirs.pauseProducing()
    link.flush()
    assert mine.bytesOut < 1_000_000
    theirs.resumeProducing()
    mine.loseWriteConnection()
    link.flush()
    assert theirUser.received == data
    assert theirUser.inputEnded
    assert len(done) == 1
    link.end()


def test_aPullAdapterIsAProducer() -> None:
    link = Link()
    verifyObject(IPushProducer, PullAdapter(link.clock, Producer()))
    link.end()


# Pausing.


class Pausing(User):
    """
    Takes one piece at a time.
    """

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self.transport.pauseProducing()


def test_whileThereIsAPauseNothingIsDelivered() -> None:
    link = Link()
    stream = link.alice.openStream("ssh")
    link.flush()
    theirs, user = link.bobOwner.asks[0][0], Pausing()
    theirs.agree()
    theirs.carry(user)
    one, two, three = bytes(PIECE), b"2" * PIECE, b"3" * PIECE
    for data in (one, two, three):
        stream.write(data)
        link.flush()
    stream.loseWriteConnection()
    link.flush()
    assert user.received == one
    theirs.resumeProducing()
    assert user.received == one + two
    assert not user.inputEnded
    theirs.resumeProducing()
    assert user.received == one + two + three
    theirs.resumeProducing()
    assert [user.inputEnded] == [True]
    link.end()


def test_smallPiecesThatWaitAreKeptTogether() -> None:
    """
    Else each would take more than its bytes, which the window does not count.
    """
    link = Link()
    _, theirs, _, _ = link.open()
    theirs.pauseProducing()
    kept = theirs._input._unread
    for _ in range(1000):
        theirs.dataReceived(b"xy")
    assert [len(piece) for piece in kept] == [2000]
    link.end()


def test_aStreamThatIsNotReadBlocksNobodyElse() -> None:
    link = Link()
    mine, theirs, _, _ = link.open()
    theirs.pauseProducing()
    other, _, _, otherUser = link.open()
    mine.write(bytes(10_000_000))
    other.write(bytes(3_000_000))
    link.flush()
    assert len(otherUser.received) == 3_000_000
    assert theirs.bytesIn <= Limits().firstWindow
    link.end()


# Windows.


def drain(end: End) -> bytes:
    """
    All that goes out of C{end} now.
    """
    drained = b""
    while end.sent:
        drained += end.sent
        end.sent.clear()
        if end.isPaused:
            end.isPaused = False
            end.producer.resumeProducing()
    return drained


def test_theWindowGrowsWhileItHoldsTheSenderUp() -> None:
    """
    With a round trip of 0.2 s, windows of 512 KiB would let 10 MB take 4 s.
    """
    link = Link()
    mine, theirs, _, theirUser = link.open()
    wire = link.wires[0]
    began = link.clock.seconds()
    mine.write(bytes(10_000_000))
    while len(theirUser.received) < 10_000_000:
        pieces = [drain(end) for end in wire.ends]
        link.clock.advance(0.1)
        for end, piece in zip(wire.ends, pieces, strict=True):
            end.other.protocol.dataReceived(piece)
    assert link.clock.seconds() - began < 2
    assert theirs._input.window.size >= 8 * Limits().firstWindow
    link.end()


def test_aSlowReadersWindowDoesNotGrow() -> None:
    link = Link()
    mine, theirs, _, _ = link.open()
    for _ in range(20):
        mine.write(bytes(64 * 1024))
        link.advance(1)
    assert theirs._input.window.size == Limits().firstWindow
    link.end()


# Sending.


def test_smallWritesOfOneTurnGoOutTogether() -> None:
    link = Link()
    mine, _, _, _ = link.open()
    link.advance(1)
    end = link.wires[0].ends[0]
    for _ in range(100):
        mine.write(b"x")
    # The first goes at once: nobody knows that there will be more.
    assert len(list(FrameReader().read(bytes(end.sent)))) == 1
    link.clock.advance(0)
    frames = [payload for kind, _, payload in FrameReader().read(bytes(end.sent))]
    # Two frames, of one stream.
    assert frames == [b"x" * 100]
    assert len(end.sent) == 2 * HEAD_LENGTH + 100
    link.end()


def test_aLargeWriteDoesNotWait() -> None:
    link = Link()
    mine, _, _, _ = link.open()
    link.advance(1)
    end = link.wires[0].ends[0]
    mine.write(b"x")
    mine.write(bytes(SMALL + 1))
    assert len(end.sent) > SMALL
    link.end()


def test_whileSomebodyWaitsForAnAnswerLessIsWrittenAtOnce() -> None:
    link = Link()
    bulk, _, _, _ = link.open()
    asking, _, _, _ = link.open()
    link.advance(1)
    end, much = link.wires[0].ends[0], FEW + SMALL
    bulk.write(bytes(much))
    assert len(end.sent) > much
    link.advance(1)
    asking.write(b"x")
    link.flush()
    bulk.write(bytes(much))
    assert 0 < len(end.sent) <= FEW
    link.advance(WAITING)
    bulk.write(bytes(much))
    assert len(end.sent) > much
    link.end()


def slowly(link: Link) -> tuple[Stream, Stream]:
    """
    Two streams of a link whose writes take C{LATE} seconds each.
    """
    streams = link.open()[0], link.open()[0]
    link.advance(1)
    end = link.wires[0].ends[0]
    end.clock, end.slowness = link.clock, LATE
    return streams


@pytest.mark.parametrize("waits", [True, False])
def test_whileSomebodyWaitsForAnAnswerWhoHasMuchToSendIsHeldBack(waits: bool) -> None:
    link = Link()
    bulk, asking = slowly(link)
    if waits:
        asking.write(b"x")
        link.flush()
    much = FEW - SMALL
    for _ in range(2):
        bulk.write(bytes(much))
        link.flush()
    assert bulk.queued == (much if waits else 0)
    asking.write(b"y")
    link.flush()
    assert not asking.queued
    link.advance(LONGEST)
    assert not bulk.queued
    link.end()


def test_whoIsHeldBackDoesNotHoldUpAnAnswer() -> None:
    link = Link()
    bulk, asking = slowly(link)
    asking.write(b"the head")
    link.flush()
    bulk.write(bytes(FEW - SMALL))
    link.flush()
    # It is first, and less.
    bulk.write(bytes(2 * SMALL))
    asking.write(bytes(TOGETHER))
    link.flush()
    assert bulk.queued == 2 * SMALL
    assert not asking.queued
    link.advance(LONGEST)
    assert not bulk.queued
    link.end()


def test_theEndOfAStreamIsNoQuestion() -> None:
    link = Link()
    bulk, ending = slowly(link)
    ending.loseWriteConnection()
    for _ in range(2):
        bulk.write(bytes(FEW - SMALL))
        link.flush()
    assert not bulk.queued
    link.end()


def test_aClockThatIsPutBackHoldsNobodyBack() -> None:
    link = Link()
    bulk, asking = slowly(link)
    link.clock.rightNow += 1000.0
    asking.write(b"x")
    link.flush()
    link.clock.rightNow -= 500.0
    for _ in range(2):
        bulk.write(bytes(FEW - SMALL))
        link.flush()
    assert not bulk.queued
    link.end()


def test_whoBeginsWithLittleIsNotHeldBackForItself() -> None:
    link = Link()
    stream, _, _, _ = link.open()
    link.advance(1)
    end = link.wires[0].ends[0]
    end.clock, end.slowness = link.clock, LATE
    stream.write(b"the head")
    for _ in range(3):
        stream.write(bytes(FEW - SMALL))
        link.flush()
    assert not stream.queued
    link.end()


def test_streamsThatAreGrantedMoreTogetherSendTogether() -> None:
    link = Link()
    pairs = [link.open()[:2] for _ in range(2)]
    for mine, theirs in pairs:
        theirs.pauseProducing()
        mine.write(bytes(1_000_000))
    link.advance(1)
    alices, bobs = link.wires[0].ends
    assert not alices.sent
    for _, theirs in pairs:
        theirs.resumeProducing()
    link.clock.advance(0)
    before = alices.writes
    bobs.deliver(len(bobs.sent))
    assert alices.writes == before + 1
    numbers = {number for _, number, _ in FrameReader().read(bytes(alices.sent))}
    assert numbers == {mine.number for mine, _ in pairs}
    link.flush()
    link.end()


@pytest.mark.parametrize("portion", [MAX_DATA // 4, MAX_DATA, 3 * MAX_DATA])
def test_aSlowPathGetsLessAtOnce(portion: int) -> None:
    link = Link()
    one, _, _, _ = link.open()
    two, _, _, _ = link.open()
    link.advance(1)
    end = link.wires[0].ends[0]
    end.portion = portion
    sender = link.alice._paths.sender
    assert sender is not None
    sender.pauseProducing()
    for stream in (one, two):
        stream.write(bytes(TURN * MAX_DATA))
    end.sent.clear()
    sender.resumeProducing()
    assert len(end.sent) == portion
    link.flush()
    link.end()


def test_whileSomebodyWaitsForAnAnswerThePathGathersNothing() -> None:
    link = Link()
    asking, _, _, _ = link.open()
    link.advance(1)
    end = link.wires[0].ends[0]
    end.hurried.clear()
    for _ in range(11):
        asking.write(b"x")
        link.advance(WAITING / 10)
    # For no time twice, and not for each request.
    assert WAITING < sum(end.hurried) <= 3 * WAITING
    link.end()


@pytest.mark.parametrize(
    ("asked", "frames"), [(0, TURN), (1, 1), (REQUEST, 1), (REQUEST + 1, TURN)]
)
def test_aTurnIsShortWhileSomebodyWaitsForAnAnswer(asked: int, frames: int) -> None:
    link = Link()
    one, _, _, _ = link.open()
    two, _, _, _ = link.open()
    asking, _, _, _ = link.open()
    link.advance(1)
    if asked:
        asking.write(bytes(asked))
    link.flush()
    sender = link.alice._paths.sender
    assert sender is not None
    sender.pauseProducing()
    for stream in (one, two):
        stream.write(bytes((TURN + 1) * MAX_DATA))
    sender.resumeProducing()
    # What comes of one stream at once is read together.
    sent = FrameReader().read(bytes(link.wires[0].ends[0].sent))
    turns = [(number, len(data)) for _, number, data in sent][:2]
    assert turns == [(one.number, frames * FULL_DATA), (two.number, frames * FULL_DATA)]
    link.flush()
    link.end()


@pytest.mark.parametrize("others", [1, 40])
def test_whoHasARequestDoesNotWaitForAllOthers(others: int) -> None:
    link = Link()
    bulk = [link.open()[0] for _ in range(others)]
    small, _, _, _ = link.open()
    link.advance(1)
    link.wires[0].ends[0].sent.clear()
    sender = link.alice._paths.sender
    assert sender is not None
    sender.pauseProducing()
    for stream in bulk:
        stream.write(bytes(10_000_000))
    small.write(b"x")
    sender.resumeProducing()
    sent = list(FrameReader().read(bytes(link.wires[0].ends[0].sent)))
    streams = [number for kind, number, _ in sent if kind is Kind.DATA]
    assert streams.index(small.number) <= 1
    link.wires[0].kill()
    link.end()
