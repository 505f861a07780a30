"""
Tests for L{punchd.server.assist} and L{punchd.server.gate}.
"""

from typing import Any

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from punchd.errors import Refused
from punchd.server.assist import OPEN_PATIENCE, QUESTION_PATIENCE, AssistGate
from punchd.server.gate import CLOSING_PATIENCE
from punchd.server.limits import Complaints, Strangers
from punchd.server.observations import Observations
from punchd.wire.observing import QUESTION_LENGTH, Question, unpackAnswer
from tests.unit.server.pretending import Counter, Journal, public

MASK = bytes(range(100, 118))


class Transport(StringTransport):
    """
    A TCP connection in memory: what is closed tells its protocol in the next turn.
    """

    _isAborted = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.noDelay = enabled

    def abortConnection(self) -> None:
        self._isAborted = True
        self.disconnecting = True

    def wasAborted(self) -> bool:
        return self._isAborted

    @property
    def isClosing(self) -> bool:
        return self.disconnecting


@define
class World:
    """
    An assist service without sockets.
    """

    most: int = 10
    clock: Clock = field(factory=Clock)
    journal: Journal = field(factory=Journal)
    strangers: Strangers = field(init=False)
    observations: Observations = field(init=False)
    gate: AssistGate = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.strangers = Strangers(self.clock, mostPerNetwork=self.most)
        self.observations = Observations(self.clock, Counter())
        self.gate = AssistGate(
            clock=self.clock,
            observations=self.observations,
            strangers=self.strangers,
            complaints=Complaints(Logger(observer=self.journal)),
        )

    def connect(self, address: Any = None) -> tuple[Any, Transport]:
        where = address or public(1)
        protocol: Any = self.gate.buildProtocol(where)
        if protocol is None:
            return None, Transport()
        transport = Transport(peerAddress=where)
        protocol.makeConnection(transport)
        return protocol, transport

    def lose(self, protocol: Any) -> None:
        protocol.connectionLost(Failure(ConnectionDone()))

    def question(self, owner: str = "alice") -> bytes:
        return Question(self.observations.issue(owner), MASK).pack()

    @property
    def complaints(self) -> list[str]:
        return self.journal.texts


@pytest.fixture
def world() -> World:
    return World()


def test_theGateIsAFactory(world: World) -> None:
    verifyObject(IProtocolFactory, world.gate)


def test_aQuestionIsAnsweredWithTheAddressSeen(world: World) -> None:
    protocol, transport = world.connect(public(1, 4321))
    protocol.dataReceived(world.question())
    assert unpackAnswer(transport.value(), MASK) == public(1, 4321)
    assert not transport.isClosing


def test_anIPv4HostOnAnIPv6SocketIsAnIPv4Host(world: World) -> None:
    protocol, transport = world.connect(IPv6Address("TCP", "::ffff:198.51.100.1", 4321))
    protocol.dataReceived(world.question())
    assert unpackAnswer(transport.value(), MASK) == IPv4Address("TCP", "198.51.100.1", 4321)


def test_theObservationIsTheTokensOwners(world: World) -> None:
    protocol, _ = world.connect(public(1, 4321))
    question = world.question("alice")
    protocol.dataReceived(question)
    token = Question.unpack(question).token
    assert world.observations.addressFor("alice", token) == public(1, 4321)


def test_aTokenIsGoodForOneConnection(world: World) -> None:
    question = world.question()
    world.connect()[0].dataReceived(question)
    protocol, transport = world.connect()
    protocol.dataReceived(question)
    with pytest.raises(Refused):
        unpackAnswer(transport.value(), MASK)
    assert transport.isClosing


def test_aQuestionMayComeInPieces(world: World) -> None:
    protocol, transport = world.connect()
    for byte in world.question():
        protocol.dataReceived(bytes([byte]))
    assert unpackAnswer(transport.value(), MASK) == public(1)


@given(st.binary(min_size=1, max_size=200))
def test_garbageEndsTheConnectionAtItsFirstWrongByte(data: bytes) -> None:
    world = World()
    protocol, transport = world.connect()
    protocol.dataReceived(data)
    isBeginning = b"PUNCHA\x01"[: len(data)] == data[:7]
    assert transport.isClosing == (not isBeginning or len(data) > QUESTION_LENGTH)
    if transport.isClosing:
        assert len(world.complaints) == 1
        assert world.complaints[0].startswith("198.51.100.1:5000: assist: ")


@given(st.integers(0, QUESTION_LENGTH - 1), st.integers(1, 255))
def test_aByteChangedNeverRaises(at: int, change: int) -> None:
    world = World()
    protocol, transport = world.connect()
    question = bytearray(world.question())
    question[at] ^= change
    protocol.dataReceived(bytes(question))
    # The flags may change, and the mask; a changed token is nobody's.
    assert transport.isClosing == (at < 7 or 8 <= at < 24)


def test_anotherVersionIsToldOurs(world: World) -> None:
    protocol, transport = world.connect()
    protocol.dataReceived(b"PUNCHA\x09")
    assert transport.value() == b"PUNCHA\x01\x00"
    assert transport.isClosing
    assert "version 9" in world.complaints[0]
    assert "version 1" in world.complaints[0]


def test_moreThanAQuestionEndsTheConnection(world: World) -> None:
    protocol, transport = world.connect()
    protocol.dataReceived(world.question() + b"x")
    assert transport.wasAborted()


def test_whatFollowsTheAnswerEndsTheConnection(world: World) -> None:
    protocol, transport = world.connect()
    protocol.dataReceived(world.question())
    protocol.dataReceived(b"x")
    assert transport.wasAborted()


def test_anUnfinishedQuestionIsNotWaitedForLong(world: World) -> None:
    protocol, transport = world.connect()
    protocol.dataReceived(world.question()[:-1])
    world.clock.advance(QUESTION_PATIENCE - 0.1)
    world.gate.sweep()
    assert not transport.wasAborted()
    world.clock.advance(0.1)
    world.gate.sweep()
    assert transport.wasAborted()
    assert "no whole question" in world.complaints[0]


def test_theConnectionStaysOpenForAPunch(world: World) -> None:
    protocol, transport = world.connect()
    protocol.dataReceived(world.question())
    world.clock.advance(OPEN_PATIENCE - 0.1)
    world.gate.sweep()
    assert not transport.wasAborted()
    world.clock.advance(0.1)
    world.gate.sweep()
    assert transport.wasAborted()
    assert world.complaints == []


def test_theConnectionEndsWithItsObservation(world: World) -> None:
    protocol, transport = world.connect()
    protocol.dataReceived(world.question())
    world.observations.forget("alice")
    world.gate.sweep()
    assert transport.wasAborted()


def test_aClosedConnectionIsNoLongerOpenForItsObservation(world: World) -> None:
    protocol, _ = world.connect()
    protocol.dataReceived(world.question())
    world.lose(protocol)
    world.clock.advance(60)
    world.observations.sweep()
    assert not world.observations._byToken


def test_strangersAreLimitedUntilTheyHaveAsked() -> None:
    world = World(most=2)
    first, _ = world.connect()
    world.connect()
    assert world.connect()[0] is None
    first.dataReceived(world.question())
    assert world.connect()[0] is not None


def test_aStrangerThatLeavesMakesRoom() -> None:
    world = World(most=1)
    protocol, _ = world.connect()
    world.lose(protocol)
    again, _ = world.connect()
    again.dataReceived(world.question())
    world.lose(again)
    assert world.connect()[0] is not None


def test_aRefusedConnectionIsLogged() -> None:
    world = World(most=0)
    world.connect()
    assert world.complaints == [
        "198.51.100.1:5000: too many connections that have not said who they are"
    ]


def test_whatIsNoTCPIsRefused(world: World) -> None:
    assert world.connect(UNIXAddress(b"/x"))[0] is None


class TestShowingOut:
    def test_itIsDoneAtOnceWhenNobodyIsIn(self, world: World) -> None:
        assert world.gate.showOut("the end").called

    def test_itIsDoneWhenTheLastHasLeft(self, world: World) -> None:
        connections = [world.connect() for _ in range(3)]
        done = world.gate.showOut("the end")
        for protocol, transport in connections:
            assert transport.isClosing
            assert not done.called
            world.lose(protocol)
        assert done.called
        assert not world.clock.getDelayedCalls()

    def test_whoDoesNotLeaveIsThrownOut(self, world: World) -> None:
        protocol, transport = world.connect()
        done = world.gate.showOut("the end")
        world.clock.advance(CLOSING_PATIENCE)
        assert transport.wasAborted()
        world.lose(protocol)
        assert done.called

    def test_nobodyIsLetInMeanwhile(self, world: World) -> None:
        world.connect()
        world.gate.showOut("the end")
        assert world.connect()[0] is None
