"""
Tests for L{punchd.peer.assist}.
"""

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from punchd.errors import (
    IncompatibleVersions,
    ProtocolViolation,
    PunchdError,
    Refused,
    Unreachable,
)
from punchd.net.held import HeldPort
from punchd.peer.assist import DEADLINE, Touch, touch
from punchd.wire.observing import Question, packAnswer
from tests.unit.net.memory import HERE, THERE, MemoryTransport, lost
from tests.unit.net.ports import FakePort

QUESTION = Question(b"t" * 16, bytes(range(1, 19)))
ANSWER = packAnswer(HERE, QUESTION.mask)


class Touching:
    """
    A question that is on its way.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.touch = Touch(self.clock, QUESTION)
        self.transport = MemoryTransport(self.touch, False)
        self.touch.makeConnection(self.transport)
        self.results: list[Any] = []
        self.touch.observed.addCallbacks(
            self.results.append, lambda failure: self.results.append(failure.value)
        )

    def fails(self, error: type[Exception]) -> bool:
        (result,) = self.results
        assert self.clock.getDelayedCalls() == []
        return isinstance(result, error)


def test_theQuestionIsAsked() -> None:
    touching = Touching()
    assert touching.transport.sent == QUESTION.pack()
    touching.touch.connectionLost(lost())


@pytest.mark.parametrize("length", [1, 3, len(ANSWER)])
def test_theAnswerIsUnderstoodInAnyPieces(length: int) -> None:
    touching = Touching()
    for at in range(0, len(ANSWER), length):
        touching.touch.dataReceived(ANSWER[at : at + length])
    assert touching.results == [HERE]


def test_theConnectionStaysOpenAfterTheAnswer() -> None:
    touching = Touching()
    touching.touch.dataReceived(ANSWER)
    touching.clock.advance(DEADLINE * 2)
    assert not touching.transport.disconnecting
    assert touching.clock.getDelayedCalls() == []


def test_closingItBreaksTheConnection() -> None:
    touching = Touching()
    touching.touch.dataReceived(ANSWER)
    touching.touch.close()
    assert touching.transport.isAborted


def test_theEndAfterTheAnswerHarmsNothing() -> None:
    touching = Touching()
    touching.touch.dataReceived(ANSWER)
    touching.touch.connectionLost(lost())
    assert touching.touch.observedAddress == HERE


def test_noAnswerIsUnreachable() -> None:
    touching = Touching()
    touching.clock.advance(DEADLINE)
    assert touching.transport.isAborted
    assert touching.fails(Unreachable)


def test_slowBytesDoNotPutTheDeadlineOff() -> None:
    touching = Touching()
    for byte in ANSWER[:8]:
        touching.touch.dataReceived(bytes([byte]))
        touching.clock.advance(DEADLINE / 8)
    assert touching.fails(Unreachable)


def test_aConnectionThatEndsIsUnreachable() -> None:
    touching = Touching()
    touching.touch.connectionLost(lost())
    assert touching.fails(Unreachable)


def test_aTokenThatIsNotTakenIsARefusal() -> None:
    touching = Touching()
    touching.touch.dataReceived(packAnswer(None, QUESTION.mask))
    assert touching.fails(Refused)


def test_anotherProtocolIsAViolation() -> None:
    touching = Touching()
    touching.touch.dataReceived(b"HTTP/1.0 400 Bad Request\r\n\r\n")
    assert touching.fails(ProtocolViolation)


def test_moreThanAnAnswerIsAViolation() -> None:
    touching = Touching()
    touching.touch.dataReceived(ANSWER + b"x")
    assert touching.fails(ProtocolViolation)


def test_anotherVersionIsNamed() -> None:
    touching = Touching()
    touching.touch.dataReceived(b"PUNCHA\x02\x06")
    assert touching.fails(IncompatibleVersions)


@given(st.lists(st.binary(min_size=1, max_size=30), max_size=5), st.booleans())
def test_anyGarbageIsAnErrorOfOurs(pieces: list[bytes], begins: bool) -> None:
    touching = Touching()
    if begins:
        touching.touch.dataReceived(b"PUNCHA")
    for piece in pieces:
        touching.touch.dataReceived(piece)
    touching.clock.advance(DEADLINE)
    touching.touch.connectionLost(lost())
    assert touching.fails(PunchdError) or touching.results[0].port >= 0


class Port:
    """
    A touch of a port without sockets.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.port = FakePort(self.clock)
        self.port.token = None
        self.results: list[Any] = []
        touching = touch(self.clock, cast(HeldPort, self.port), THERE, QUESTION)
        self.running = Deferred.fromCoroutine(touching)
        self.running.addCallbacks(
            self.results.append, lambda failure: self.results.append(failure.value)
        )


def test_thePortKnowsItsTokenAndHowItIsSeen() -> None:
    port = Port()
    transport = port.port.dials[0].succeed()
    transport.protocol.dataReceived(ANSWER)
    assert (port.port.token, port.port.observed) == (QUESTION.token, HERE)
    assert isinstance(port.results[0], Touch)


def test_aServiceThatCannotBeReachedIsUnreachable() -> None:
    port = Port()
    port.port.dials[0].connecting.errback(Failure(ConnectionRefusedError()))
    (error,) = port.results
    assert isinstance(error, Unreachable)
    assert "assist service cannot be reached" in str(error)
    assert port.clock.getDelayedCalls() == []


def test_aServiceWhoseSYNsVanishIsUnreachableAtTheDeadline() -> None:
    port = Port()
    port.clock.advance(DEADLINE)
    (error,) = port.results
    assert isinstance(error, Unreachable)
    assert port.clock.getDelayedCalls() == []
    assert port.port.dials[0].isCancelled


def test_cancellingWhileConnectingLeavesNothing() -> None:
    port = Port()
    port.running.cancel()
    assert port.port.dials[0].isCancelled
    assert port.clock.getDelayedCalls() == []
    (error,) = port.results
    assert isinstance(error, CancelledError)


def test_cancellingARealConnectionIsNotAFailureOfTheService() -> None:
    """
    Twisted's endpoints say in their own way that they were cancelled.
    """
    reactor: Any = MemoryReactorClock()
    port = HeldPort.take(reactor, Factory())
    running = Deferred.fromCoroutine(touch(reactor, port, THERE, QUESTION))
    results: list[Any] = []
    running.addErrback(lambda failure: results.append(failure.value))
    running.cancel()
    (error,) = results
    assert isinstance(error, CancelledError)
    assert reactor.connectors[0].stoppedConnecting
    assert reactor.getDelayedCalls() == []
    port.close()


def test_cancellingWhileWaitingBreaksTheConnection() -> None:
    port = Port()
    transport = port.port.dials[0].succeed()
    port.running.cancel()
    assert transport.isAborted
    transport.protocol.connectionLost(lost())
    assert port.clock.getDelayedCalls() == []
