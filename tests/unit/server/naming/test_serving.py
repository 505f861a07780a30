"""
Tests for L{punchd.server.naming.serving}: datagrams and connections without a network.
"""

from typing import Any

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import Logger
from twisted.names import dns
from zope.interface.verify import verifyObject

from punchd.server.limits import Complaints
from punchd.server.naming.responding import ANSWERS_AT_ONCE
from punchd.server.naming.serving import (
    MOST_QUESTION,
    MOST_STREAMS_PER_NETWORK,
    PATIENCE,
    Datagrams,
    NamingGate,
    Stream,
)
from punchd.server.naming.starting import Naming
from punchd.server.sessions import Population
from tests.unit.net.memory import lost
from tests.unit.server.pretending import Counter, Journal, public


def ask(name: str = "peers.example.org", kind: int = dns.SOA) -> bytes:
    message = dns.Message(id=7)
    message.addQuery(name, kind)
    return message.toStr()


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message


@define
class Wire(StringTransport):
    """
    A connection, with what happened to it.
    """

    def __attrs_post_init__(self) -> None:
        StringTransport.__init__(self)
        self.isAborted = False

    def abortConnection(self) -> None:
        self.isAborted = True


@define
class World:
    """
    A gate, and clients.
    """

    clock: Clock = field(factory=Clock)
    journal: Journal = field(factory=Journal)
    gate: NamingGate = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.gate = Naming("peers.example.org", ()).makeGate(
            clock=self.clock,
            entropy=Counter(),
            population=Population(),
            complaints=Complaints(Logger(observer=self.journal)),
            hosts=["192.0.2.1"],
        )

    def connect(self, number: int = 1) -> tuple[Any, Wire]:
        protocol: Any = self.gate.buildProtocol(public(number))
        wire = Wire()
        protocol.makeConnection(wire)
        return protocol, wire

    def wait(self, seconds: float) -> None:
        """
        As the server sweeps every second.
        """
        for _ in range(int(seconds)):
            self.clock.advance(1)
            self.gate.sweep()


def answersIn(data: bytes) -> list[dns.Message]:
    found = []
    while data:
        length = int.from_bytes(data[:2], "big")
        message = dns.Message()
        message.fromStr(data[2 : 2 + length])
        found.append(message)
        data = data[2 + length :]
    return found


def test_aConnectionKeepsTheContracts() -> None:
    stream = Stream(World().gate, public(1))
    assert verifyObject(IHalfCloseableProtocol, stream)
    assert verifyObject(IPushProducer, stream)


def test_questionsOnOneConnectionAreAnsweredInTurn() -> None:
    protocol, wire = World().connect()
    protocol.dataReceived(framed(ask()) * 3)
    assert [len(answer.answers) for answer in answersIn(wire.value())] == [1, 1, 1]


@given(st.data())
def test_aQuestionMayComeInPieces(data: st.DataObject) -> None:
    protocol, wire = World().connect()
    packed = framed(ask()) * 2
    while packed:
        size = data.draw(st.integers(1, len(packed)))
        protocol.dataReceived(packed[:size])
        packed = packed[size:]
    assert len(answersIn(wire.value())) == 2


@given(st.lists(st.binary(max_size=100), max_size=5))
def test_nothingIsTooOdd(pieces: list[bytes]) -> None:
    protocol, wire = World().connect()
    for piece in pieces:
        protocol.dataReceived(piece)
    assert all(answer.answer for answer in answersIn(wire.value()))


def test_whoHasNothingMoreToAskGetsItsAnswers() -> None:
    protocol, wire = World().connect()
    protocol.dataReceived(framed(ask()))
    protocol.readConnectionLost()
    assert len(answersIn(wire.value())) == 1
    assert wire.disconnecting
    assert wire.producer is None


@pytest.mark.parametrize("said", [b"", b"\0", framed(ask())[:-1]])
def test_whoIsSlowIsNotWaitedFor(said: bytes) -> None:
    world = World()
    protocol, wire = world.connect()
    world.wait(PATIENCE - 1)
    # A byte now and then does not help.
    protocol.dataReceived(said)
    assert not wire.isAborted
    world.wait(1)
    assert wire.isAborted


def test_whoAsksAgainMayStay() -> None:
    world = World()
    protocol, wire = world.connect()
    for _ in range(5):
        world.wait(PATIENCE - 1)
        protocol.dataReceived(framed(ask()))
    assert not wire.isAborted


def test_aQuestionHasABound() -> None:
    protocol, wire = World().connect()
    protocol.dataReceived((MOST_QUESTION + 1).to_bytes(2, "big"))
    assert wire.isAborted


def test_anAnswerIsNoQuestion() -> None:
    protocol, wire = World().connect()
    protocol.dataReceived(framed(ask()[:2] + b"\x80" + ask()[3:]) + framed(ask()))
    assert wire.isAborted
    assert wire.value() == b""


def test_whoDoesNotReadIsDropped() -> None:
    _, wire = World().connect()
    producer: Any = wire.producer
    producer.pauseProducing()
    assert wire.isAborted


def test_whoAsksTooMuchIsDropped() -> None:
    protocol, wire = World().connect()
    protocol.dataReceived(framed(ask()) * (int(ANSWERS_AT_ONCE) + 100))
    assert wire.isAborted
    assert len(answersIn(wire.value())) == ANSWERS_AT_ONCE


def test_oneNetworkHasOnlySoManyConnections() -> None:
    world = World()
    ends = [world.connect()[0] for _ in range(MOST_STREAMS_PER_NETWORK)]
    assert world.gate.buildProtocol(public(1)) is None
    assert world.gate.buildProtocol(public(2)) is not None
    ends[0].connectionLost(lost())
    assert world.gate.buildProtocol(public(1)) is not None


@define
class Network:
    """
    A UDP port that remembers, or fails.
    """

    error: Exception | None = None
    maxThroughput: int = 0
    sent: list[tuple[bytes, Any]] = field(factory=list)

    def write(self, data: bytes, addr: Any) -> None:
        if self.error is not None:
            raise self.error
        self.sent.append((data, addr))


def listen(network: Network) -> Datagrams:
    datagrams = World().gate.makeDatagrams()
    datagrams.transport = network
    datagrams.startProtocol()
    return datagrams


def test_anAnswerGoesWhereTheQuestionCameFrom() -> None:
    network = Network()
    listen(network).datagramReceived(ask(), ("::ffff:192.0.2.9", 4000))
    [(answer, address)] = network.sent
    assert address == ("::ffff:192.0.2.9", 4000)
    assert answer[:2] == ask()[:2]
    assert 0 < network.maxThroughput < 10000


def test_emptyDatagramsCountToo() -> None:
    """
    As Twisted reads on until it has read so many bytes.
    """
    world, network = World(), Network()
    datagrams = world.gate.makeDatagrams()
    datagrams.transport = network
    datagrams.startProtocol()
    turns = []
    for _ in range(2):
        read = count = 0
        while read < network.maxThroughput:
            datagrams.datagramReceived(b"", ("192.0.2.9", 4000))
            count += 1
            assert count < 1000
        turns.append(count)
        world.clock.advance(0)
    assert turns[0] == turns[1] > 50
    assert network.sent == []
    datagrams.datagramReceived(b"", ("192.0.2.9", 4000))
    datagrams.transport = None
    world.clock.advance(0)


def test_anAnswerThatCannotBeSentIsLost() -> None:
    listen(Network(OSError("no way"))).datagramReceived(ask(), ("192.0.2.9", 0))


def test_theGateTakesTCPOnly() -> None:
    assert World().gate.buildProtocol(None) is None


def test_theServersEndIsTheConnectionsEnd() -> None:
    world = World()
    protocol, wire = world.connect()
    results: list[Any] = []
    world.gate.showOut("the server ends").addCallback(results.append)
    assert wire.disconnecting
    protocol.connectionLost(lost())
    world.clock.advance(2)
    assert results == [None]
    assert isinstance(public(1), IPv4Address)
