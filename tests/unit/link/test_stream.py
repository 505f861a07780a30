"""
Tests for L{punchd.link.stream}: both ends over real TLS on a connection in memory.
"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHandshakeListener, ITransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from punchd.errors import ProtocolViolation, PunchdError, Refused, Unreachable
from punchd.link.measuring import ANSWERING
from punchd.link.stream import (
    BREAKING,
    CLOSING,
    MEASURING,
    OPENING,
    PINGS_AT_ONCE,
    PINGS_PER_SECOND,
    Stream,
)
from punchd.wire.frames import Kind, packFrame, packHead
from tests.unit.link.pairs import Sides, Streaming, User
from tests.unit.net.memory import MemoryTransport, lost

BOTH_WAYS = pytest.mark.parametrize("callerDials", [True, False], ids=["called", "reversed"])


def test_aStreamIsATransport() -> None:
    stream = Stream(Clock(), lambda: None)
    verifyObject(ITransport, stream)
    verifyObject(IHandshakeListener, stream)


# Opening.


@BOTH_WAYS
def test_theCalleeIsAskedForTheService(callerDials: bool) -> None:
    sides = Sides(callerDials)
    sides.caller.stream.elect("ssh")
    sides.flush()
    assert sides.asked.services == ["ssh"]
    sides.end()


def test_theCallersStreamOpensWhenTheCalleeAgrees() -> None:
    sides = Sides()
    opened: list[None] = []
    sides.caller.stream.opened.addCallback(opened.append)
    sides.caller.stream.elect("ssh")
    sides.flush()
    assert opened == []
    sides.callee.stream.agree()
    sides.flush()
    assert opened == [None]
    sides.end()


def test_aCalleeThatAgreesAtOnceAgrees() -> None:
    sides = Sides()
    sides.callee.stream.onAsked = lambda stream, service: stream.agree()
    sides.caller.stream.elect("ssh")
    sides.flush()
    assert sides.caller.stream.opened.called
    sides.end()


def refusalOf(sides: Sides) -> PunchdError:
    errors: list[PunchdError] = []

    def failed(failure: Failure) -> None:
        assert isinstance(failure.value, PunchdError)
        errors.append(failure.value)

    sides.caller.stream.opened.addErrback(failed)
    sides.caller.stream.elect("ssh")
    sides.caller.stream.carry(User())
    sides.caller.stream.write(b"already here")
    sides.flush()
    sides.callee.stream.refuse("no such service\x1b[2J")
    sides.flush()
    (error,) = errors
    return error


def test_theReasonOfARefusalReachesTheCallerWhoHasSentAlready() -> None:
    error = refusalOf(Sides())
    assert isinstance(error, Refused)
    assert str(error) == "no such service?[2J"


def test_whatIsSentAfterARefusalBreaksNothing() -> None:
    sides = Sides()
    errors: list[object] = []
    sides.caller.stream.opened.addErrback(lambda failure: errors.append(failure.value))
    sides.caller.stream.elect("ssh")
    sides.caller.stream.carry(User())
    sides.flush()
    sides.callee.stream.refuse("no")
    sides.caller.stream.write(b"x" * 100_000)
    sides.flush()
    assert [str(error) for error in errors] == ["no"]


def test_aRefusedConnectionIsClosed() -> None:
    sides = Sides()
    refusalOf(sides)
    assert not sides.wire.isOpen
    assert sides.clock.getDelayedCalls() == []


def test_dataBeforeTheAnswerIsNotLost() -> None:
    sides = Sides()
    sides.caller.stream.elect("ssh")
    sides.caller.stream.carry(User())
    sides.caller.stream.write(b"early")
    sides.flush()
    user = User()
    sides.callee.stream.agree()
    sides.callee.stream.carry(user)
    sides.flush()
    assert user.received == b"early"
    sides.end()


def test_dataAndItsEndBeforeTheAnswerAreNotLost() -> None:
    sides = Sides()
    sides.caller.stream.elect("ssh")
    sides.caller.stream.carry(User())
    sides.caller.stream.write(b"early")
    sides.caller.stream.loseWriteConnection()
    sides.flush()
    user = User()
    sides.callee.stream.agree()
    sides.callee.stream.carry(user)
    sides.flush()
    assert (user.received, user.inputEnded) == (b"early", True)
    sides.end()


def test_earlyDataDoesNotPileUpAtTheCallee() -> None:
    sides = Sides()
    sides.caller.stream.elect("ssh")
    sides.caller.stream.carry(User())
    sides.flush()
    sides.caller.stream.write(b"x")
    sides.flush()
    assert sides.wire.two.isPaused
    sides.end()


def test_theCalleesDataBeforeItIsCarriedIsNotLost() -> None:
    sides = Sides()
    sides.caller.stream.elect("ssh")
    sides.flush()
    sides.callee.stream.agree()
    sides.callee.stream.carry(User())
    sides.callee.stream.write(b"SSH-2.0-")
    sides.flush()
    user = User()
    sides.caller.stream.carry(user)
    sides.flush()
    assert user.received == b"SSH-2.0-"
    sides.end()


def test_aConnectionThatBreaksBeforeTheAnswerIsUnreachable() -> None:
    sides = Sides()
    errors: list[object] = []
    sides.caller.stream.opened.addErrback(lambda failure: errors.append(failure.value))
    sides.caller.stream.elect("ssh")
    sides.end()
    assert [type(error) for error in errors] == [Unreachable]


# Carrying.


@BOTH_WAYS
def test_bytesGoBothWays(callerDials: bool) -> None:
    streaming = Streaming(callerDials)
    streaming.caller.stream.write(b"question")
    streaming.callee.stream.write(b"answer")
    streaming.flush()
    assert streaming.calleeUser.received == b"question"
    assert streaming.callerUser.received == b"answer"
    streaming.end()


def test_aWriteOfAnySizeArrives() -> None:
    streaming = Streaming()
    data = bytes(range(256)) * 1000
    streaming.caller.stream.write(data)
    streaming.caller.stream.writeSequence([data, b"", b"end"])
    streaming.flush()
    assert streaming.calleeUser.received == data + data + b"end"
    streaming.end()


def test_bytesAreCountedAtBothEnds() -> None:
    streaming = Streaming()
    streaming.caller.stream.write(b"12345")
    streaming.callee.stream.write(b"123")
    streaming.flush()
    caller, callee = streaming.caller.stream, streaming.callee.stream
    assert (caller.bytesOut, callee.bytesIn, callee.bytesOut, caller.bytesIn) == (5, 5, 3, 3)
    streaming.end()


class Closing(Protocol):
    """
    A user that knows nothing of half-close.
    """

    lost: Failure | None = None

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


@BOTH_WAYS
def test_oneWayCanEndWhileTheOtherGoesOn(callerDials: bool) -> None:
    streaming = Streaming(callerDials)
    streaming.caller.stream.write(b"question")
    streaming.caller.stream.loseWriteConnection()
    streaming.flush()
    streaming.callee.stream.write(b"answer")
    streaming.flush()
    assert streaming.calleeUser.received == b"question"
    assert streaming.calleeUser.inputEnded
    assert streaming.callerUser.received == b"answer"
    assert not streaming.callerUser.inputEnded
    streaming.end()


@BOTH_WAYS
def test_theCalleeCanEndItsWayFirst(callerDials: bool) -> None:
    streaming = Streaming(callerDials)
    streaming.callee.stream.loseWriteConnection()
    streaming.flush()
    streaming.caller.stream.write(b"still")
    streaming.flush()
    assert streaming.callerUser.inputEnded
    assert streaming.calleeUser.received == b"still"
    streaming.end()


def test_whenBothWaysHaveEndedTheStreamIsDone() -> None:
    streaming = Streaming()
    streaming.caller.stream.loseWriteConnection()
    streaming.callee.stream.loseWriteConnection()
    streaming.flush()
    for user in (streaming.callerUser, streaming.calleeUser):
        assert user.lost is not None
        assert user.lost.check(ConnectionDone)
    assert streaming.clock.getDelayedCalls() == []


def test_closingDeliversWhatWasWritten() -> None:
    streaming = Streaming()
    streaming.caller.stream.write(b"x" * 100_000)
    streaming.caller.stream.loseConnection()
    streaming.flush()
    assert len(streaming.calleeUser.received) == 100_000
    streaming.end()


def test_whoDoesNotKnowHalfCloseIsClosedAtTheEndOfInput() -> None:
    sides = Sides()
    sides.caller.stream.elect("ssh")
    sides.flush()
    closing = Closing()
    sides.callee.stream.agree()
    sides.callee.stream.carry(closing)
    sides.caller.stream.carry(User())
    sides.caller.stream.loseWriteConnection()
    sides.flush()
    assert closing.lost is not None
    assert closing.lost.check(ConnectionDone)
    assert sides.clock.getDelayedCalls() == []


def test_aBreakIsNoOrderlyEnd() -> None:
    streaming = Streaming()
    streaming.caller.stream.abortConnection()
    streaming.flush()
    assert streaming.calleeUser.lost is not None
    assert streaming.calleeUser.lost.check(ConnectionLost)


def test_aBreakTellsBothUsers() -> None:
    streaming = Streaming()
    streaming.callee.stream.abortConnection()
    streaming.flush()
    assert streaming.callerUser.lost is not None
    assert streaming.calleeUser.lost is not None


def test_aBreakLeavesNothingToBeDone() -> None:
    streaming = Streaming()
    streaming.caller.stream.abortConnection()
    streaming.flush()
    streaming.clock.advance(CLOSING)
    streaming.flush()
    assert streaming.clock.getDelayedCalls() == []
    assert not streaming.wire.isOpen


def test_aLostConnectionIsNoOrderlyEnd() -> None:
    streaming = Streaming()
    streaming.end()
    for user in (streaming.callerUser, streaming.calleeUser):
        assert user.lost is not None
        assert user.lost.check(ConnectionLost)


def test_aConnectionLostAfterOneEndIsNoOrderlyEnd() -> None:
    streaming = Streaming()
    streaming.caller.stream.loseWriteConnection()
    streaming.end()
    assert streaming.calleeUser.lost is not None
    assert streaming.calleeUser.lost.check(ConnectionLost)


def test_aStreamWaitsForTheOtherEndToAgreeToClose() -> None:
    streaming = Streaming()
    streaming.caller.stream.loseConnection()
    streaming.flush()
    assert streaming.wire.isOpen
    streaming.end()


def test_whoNeverAgreesToCloseIsLeftAlone() -> None:
    streaming = Streaming()
    streaming.caller.stream.loseConnection()
    streaming.wire.advance(CLOSING)
    assert not streaming.wire.isOpen
    assert streaming.clock.getDelayedCalls() == []


def test_whoTalksToAClosedStreamHearsOfIt() -> None:
    streaming = Streaming()
    streaming.caller.stream.loseConnection()
    streaming.flush()
    streaming.callee.stream.write(b"are you there?")
    streaming.flush()
    assert streaming.calleeUser.lost is not None
    assert streaming.calleeUser.lost.check(ConnectionLost)
    streaming.clock.advance(CLOSING)


def test_afterItsEndNothingIsWritten() -> None:
    streaming = Streaming()
    streaming.caller.stream.loseWriteConnection()
    streaming.caller.stream.write(b"too late")
    streaming.flush()
    assert streaming.calleeUser.received == b""
    streaming.end()


def test_closingTwiceIsClosingOnce() -> None:
    streaming = Streaming()
    streaming.caller.stream.loseConnection()
    streaming.caller.stream.loseConnection()
    streaming.callee.stream.loseConnection()
    streaming.flush()
    assert streaming.clock.getDelayedCalls() == []
    assert not streaming.wire.isOpen


def test_whoeverWaitsForTheEndHearsOfIt() -> None:
    streaming = Streaming()
    ended: list[None] = []
    streaming.caller.stream.whenOver().addCallback(ended.append)
    assert ended == []
    streaming.end()
    assert ended == [None]
    streaming.caller.stream.whenOver().addCallback(ended.append)
    assert ended == [None, None]


def test_aUserThatComesTooLateIsToldAtOnce() -> None:
    sides = Sides()
    sides.caller.stream.elect("ssh")
    sides.flush()
    sides.end()
    user = User()
    sides.callee.stream.carry(user)
    assert user.lost is not None
    assert user.lost.check(ConnectionLost)


class Pausing(User):
    """
    Takes one piece at a time.
    """

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self.transport.pauseProducing()


def test_whileThereIsAPauseNothingIsDelivered() -> None:
    sides = Sides()
    sides.caller.stream.elect("ssh")
    sides.flush()
    user = Pausing()
    sides.callee.stream.agree()
    sides.callee.stream.carry(user)
    sides.caller.stream.carry(User())
    sides.caller.stream.write(b"one")
    sides.flush()
    sides.caller.stream.write(b"two")
    sides.flush()
    assert user.received == b"one"
    user.transport.resumeProducing()
    sides.flush()
    assert user.received == b"onetwo"
    sides.end()


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
        stream = (streaming.caller if isCaller else streaming.callee).stream
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
    assert streaming.wire.isOpen is not all(ended.values())
    if streaming.wire.isOpen:
        streaming.end()


# Measuring.


def test_aPingMeasuresTheRoundTrip() -> None:
    streaming = Streaming()
    measured: list[float] = []
    streaming.caller.stream.measure().addCallback(measured.append)
    streaming.caller.stream.measure().addCallback(measured.append)
    streaming.clock.advance(0.25)
    streaming.flush()
    assert measured == [0.25, 0.25]
    assert streaming.caller.stream.roundTrip == 0.25
    streaming.end()


def test_aPingOnAConnectionThatEndsIsUnreachable() -> None:
    streaming = Streaming()
    errors: list[object] = []
    streaming.caller.stream.measure().addErrback(lambda failure: errors.append(failure.value))
    streaming.end()
    streaming.caller.stream.measure().addErrback(lambda failure: errors.append(failure.value))
    assert [type(error) for error in errors] == [Unreachable, Unreachable]


# What the other end may not do.


class Alone:
    """
    One end of a stream, proven; the other end is the test.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.stream = Stream(self.clock, lambda: None)
        self.stream.onAsked = lambda stream, service: None
        self.transport: Any = MemoryTransport(self.stream, True)
        self.transport.negotiatedProtocol = b"punchd-link/1"
        self.stream.makeConnection(self.transport)
        self.stream.handshakeCompleted()
        self.stream.opened.addErrback(lambda failure: failure.trap(PunchdError) and None)

    def receive(self, *frames: bytes) -> None:
        self.stream.dataReceived(b"".join(frames))

    @property
    def isBroken(self) -> bool:
        broken = isinstance(self.stream.violation, ProtocolViolation)
        return broken and bool(self.transport.isAborted)


def test_aStreamThatIsNeitherAgreedToNorRefusedBreaks() -> None:
    alone = Alone()
    alone.stream.elect("ssh")
    alone.clock.advance(OPENING)
    assert alone.transport.isAborted
    alone.stream.connectionLost(lost())
    assert alone.clock.getDelayedCalls() == []


def test_aMeasurementWithoutAnswerFails() -> None:
    alone = Alone()
    errors: list[object] = []
    alone.stream.measure().addErrback(lambda failure: errors.append(failure.value))
    alone.clock.advance(ANSWERING)
    assert [type(error) for error in errors] == [Unreachable]
    alone.receive(packFrame(Kind.PONG, b"12345678"))
    assert alone.stream.violation is None
    alone.stream.connectionLost(lost())


def test_aStreamThatOnlyMeasuresDoesNotLast() -> None:
    alone = Alone()
    alone.receive(packFrame(Kind.OPEN))
    alone.stream.agree()
    assert not alone.transport.disconnecting
    alone.clock.advance(MEASURING)
    assert alone.transport.disconnecting
    alone.stream.connectionLost(lost())
    assert alone.clock.getDelayedCalls() == []


OPEN = packFrame(Kind.OPEN, b"ssh")
DATA = packHead(Kind.DATA, 1) + b"x"
FIN = packFrame(Kind.FIN)


@pytest.mark.parametrize(
    "frames",
    [
        [DATA],
        [FIN],
        [packFrame(Kind.OPENED)],
        [packFrame(Kind.REFUSED, b"no")],
        [packFrame(Kind.PONG, b"12345678")],
        [OPEN, OPEN],
        [OPEN, packFrame(Kind.OPENED)],
        [OPEN, packFrame(Kind.REFUSED, b"no")],
        [OPEN, FIN, DATA],
        [OPEN, FIN, FIN],
        [b"\x00\x00\x00\x00"],
        [packHead(Kind.OPEN, 2000)],
    ],
    ids=[
        "data before open",
        "fin before open",
        "opened unasked",
        "refused unasked",
        "pong unasked",
        "open twice",
        "opened by the caller",
        "refused by the caller",
        "data after fin",
        "fin twice",
        "no frame",
        "too long",
    ],
)
def test_aFrameOutOfPlaceBreaksTheConnection(frames: list[bytes]) -> None:
    alone = Alone()
    alone.receive(*frames)
    assert alone.isBroken
    alone.stream.connectionLost(lost())
    assert alone.clock.getDelayedCalls() == []


def test_dataBeforeTheCalleeAgreedBreaksTheCallersConnection() -> None:
    alone = Alone()
    alone.stream.elect("ssh")
    alone.receive(DATA)
    assert alone.isBroken


def test_theViolationIsWhyTheStreamDidNotOpen() -> None:
    alone = Alone()
    alone.stream.opened = type(alone.stream.opened)()
    errors: list[object] = []
    alone.stream.opened.addErrback(lambda failure: errors.append(failure.value))
    alone.stream.elect("ssh")
    alone.receive(DATA)
    alone.stream.connectionLost(lost())
    assert [type(error) for error in errors] == [ProtocolViolation]


def test_afterAViolationNothingIsHeard() -> None:
    alone = Alone()
    alone.receive(DATA, OPEN)
    assert alone.stream.service is None


def test_anotherApplicationProtocolIsAViolation() -> None:
    stream = Stream(Clock(), lambda: None)
    transport: Any = MemoryTransport(stream, True)
    transport.negotiatedProtocol = b"h2"
    stream.makeConnection(transport)
    stream.handshakeCompleted()
    assert isinstance(stream.violation, ProtocolViolation)
    assert transport.isAborted


def test_aPingIsAnsweredInEveryState() -> None:
    alone = Alone()
    alone.receive(packFrame(Kind.PING, b"any"))
    assert alone.transport.sent == packFrame(Kind.PONG, b"any")


def test_pingsThatNobodyWaitsForBreakTheConnection() -> None:
    alone = Alone()
    pings = [packFrame(Kind.PING, b"p" * 1024)] * int(PINGS_AT_ONCE)
    alone.receive(*pings)
    assert not alone.transport.isAborted
    alone.clock.advance(1)
    alone.receive(*pings)
    assert alone.isBroken
    assert alone.transport.sent.count(b"p" * 1024) == PINGS_AT_ONCE + PINGS_PER_SECOND


@pytest.mark.parametrize("ours", [True, False], ids=["refused by us", "refused to us"])
def test_aRefusedConnectionEndsByForceIfItMust(ours: bool) -> None:
    alone = Alone()
    if ours:
        alone.receive(OPEN)
        alone.stream.refuse("no")
    else:
        alone.stream.elect("ssh")
        alone.receive(packFrame(Kind.REFUSED, b"no"))
    assert alone.transport.disconnecting
    assert not alone.transport.isAborted
    alone.clock.advance(CLOSING)
    assert alone.transport.isAborted
    alone.stream.connectionLost(lost())
    assert alone.clock.getDelayedCalls() == []


def test_aResetBreaksTheStreamWithItsReason() -> None:
    alone = Alone()
    user = User()
    alone.receive(OPEN)
    alone.stream.agree()
    alone.stream.carry(user)
    alone.receive(packFrame(Kind.RESET, b"the service crashed"))
    assert alone.transport.disconnecting
    alone.stream.connectionLost(lost())
    assert user.lost is not None
    assert "the service crashed" in str(user.lost.value)


def test_aStreamThatWasResetEndsByForceIfItMust() -> None:
    alone = Alone()
    alone.receive(packFrame(Kind.RESET, b"the service crashed"))
    assert not alone.transport.isAborted
    alone.clock.advance(BREAKING)
    assert alone.transport.isAborted
    alone.stream.connectionLost(lost())


def test_aResetAfterBothEndsIsNoOrderlyEnd() -> None:
    alone = Alone()
    user = User()
    alone.receive(OPEN)
    alone.stream.agree()
    alone.stream.carry(user)
    alone.receive(FIN + packFrame(Kind.RESET, b"the service crashed"))
    alone.stream.loseWriteConnection()
    alone.stream.connectionLost(lost())
    assert user.lost is not None
    assert user.lost.check(ConnectionLost)


@given(st.lists(st.binary(min_size=1, max_size=60), max_size=6))
def test_garbageRaisesNothing(pieces: list[bytes]) -> None:
    alone = Alone()
    for piece in pieces:
        alone.stream.dataReceived(piece)
    alone.stream.connectionLost(lost())
    assert alone.clock.getDelayedCalls() == []


def test_whatIsKeptBeforeTheAnswerIsBoundedByTCP() -> None:
    alone = Alone()
    alone.receive(OPEN, DATA)
    assert alone.transport.isPaused
