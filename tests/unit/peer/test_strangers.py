"""
Tests for L{punchd.peer.strangers}.
"""

from __future__ import annotations

from typing import Any, cast

import pytest
from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from zope.interface.verify import verifyObject

from punchd.errors import Unreachable
from punchd.peer.exposure import Exposure
from punchd.peer.strangers import MOST_CONNECTIONS, SILENCE, PublishedFactory, Visitor
from punchd.values.addresses import Ends, makeAddress
from punchd.wire.proving import CHALLENGE_LENGTH, Challenge
from punchd.wire.proxying import ProxyVersion
from tests.unit.net.memory import lost

SECRET = b"s" * 32
CHALLENGE = Challenge.make(SECRET, b"n" * 16)


@define(eq=False)
class Endpoint:
    """
    Connects to nobody, until the test says so.
    """

    factory: Any = None
    connecting: list[Deferred[Any]] = field(factory=list)

    def connect(self, factory: Any) -> Deferred[Any]:
        self.factory = factory
        self.connecting.append(Deferred())
        return self.connecting[-1]


class Transport(StringTransport):
    """
    Closes one way.
    """

    isFinished = False

    def loseWriteConnection(self) -> None:
        self.isFinished = True


@define(eq=False)
class World:
    """
    A published service.
    """

    clock: Clock = field(factory=Clock)
    version: ProxyVersion | None = None
    endpoint: Endpoint = field(factory=Endpoint)
    factory: PublishedFactory = field(init=False)

    def __attrs_post_init__(self) -> None:
        endpoint = cast(IStreamClientEndpoint, self.endpoint)
        self.factory = PublishedFactory(self.clock, "web", Exposure(endpoint, self.version))

    def come(self, transport: Transport | None = None) -> tuple[Any, Transport]:
        """
        Somebody connects.
        """
        transport = transport or Transport()
        end = self.factory.buildProtocol(None)
        assert end is not None
        end.makeConnection(transport)
        return end, transport

    def serve(self) -> Transport:
        """
        The service takes the latest connection; what it hears.
        """
        local, transport = self.endpoint.factory.buildProtocol(None), Transport()
        local.makeConnection(transport)
        return transport


@pytest.fixture
def world() -> World:
    return World()


def expecting() -> World:
    world = World()
    world.factory.secrets.add(SECRET)
    return world


def test_strangersAreBounded(world: World) -> None:
    ends = [world.come()[0] for _ in range(MOST_CONNECTIONS)]
    assert world.factory.buildProtocol(None) is None
    ends[0].connectionLost()
    assert world.factory.buildProtocol(None) is not None


def test_aStrangerIsTurnedAwayWhereTheServiceIsNotThere(world: World) -> None:
    _, transport = world.come()
    world.endpoint.connecting[-1].errback(Unreachable("refused"))
    assert transport.disconnecting


def test_strangersGoWithThePeer(world: World) -> None:
    _, transport = world.come()
    world.factory.abort()
    assert transport.disconnecting


def test_withoutAnExpectedServerNobodyWaits(world: World) -> None:
    world.come()
    assert world.endpoint.factory is not None
    assert world.clock.getDelayedCalls() == []


@pytest.mark.parametrize("size", [1, 5, CHALLENGE_LENGTH])
def test_anExpectedServerIsAnswered(size: int) -> None:
    world = expecting()
    visitor, transport = world.come()
    assert verifyObject(IHalfCloseableProtocol, visitor)
    packed = CHALLENGE.pack()
    for at in range(0, len(packed), size):
        visitor.dataReceived(packed[at : at + size])
    assert CHALLENGE.isAnswered(transport.value(), SECRET)
    assert transport.disconnecting
    assert world.endpoint.factory is None
    visitor.connectionLost(lost())
    assert world.clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n",
        b"PUNCH",
        b"PUNCHC" + bytes(CHALLENGE_LENGTH - 6),
        Challenge.make(b"x" * 32, b"n" * 16).pack(),
        CHALLENGE.pack()[:-1],
    ],
)
def test_aStrangerLosesNothing(said: bytes) -> None:
    """
    Whatever it says, and however long it waits.
    """
    world = expecting()
    visitor, transport = world.come()
    for at in range(len(said)):
        visitor.dataReceived(said[at : at + 1])
    world.clock.advance(SILENCE)
    service = world.serve()
    visitor.dataReceived(b" and more")
    assert service.value() == said + b" and more"
    assert transport.value() == b""


def test_whoWaitsForTheServiceHearsItSoon() -> None:
    world = expecting()
    _, transport = world.come()
    assert world.endpoint.factory is None
    world.clock.advance(SILENCE)
    factory: Any = world.endpoint.factory
    local = factory.buildProtocol(None)
    local.makeConnection(Transport())
    local.dataReceived(b"SSH-2.0-")
    assert transport.value() == b"SSH-2.0-"


def test_whoSaysNothingMoreIsAStranger() -> None:
    world = expecting()
    visitor, _ = world.come()
    visitor.dataReceived(b"PUN")
    visitor.readConnectionLost()
    service = world.serve()
    assert service.value() == b"PUN"
    assert service.isFinished


def test_whoLeavesEarlyIsForgotten() -> None:
    world = expecting()
    ends = [world.come()[0] for _ in range(MOST_CONNECTIONS)]
    assert world.factory.buildProtocol(None) is None
    for end in ends:
        end.connectionLost(lost())
    assert world.clock.getDelayedCalls() == []
    assert isinstance(world.factory.buildProtocol(None), Visitor)


@pytest.mark.parametrize("version", ProxyVersion)
@pytest.mark.parametrize("isExpecting", [False, True])
def test_aServiceIsToldFromWhereAStrangerComes(version: ProxyVersion, isExpecting: bool) -> None:
    world = World(version=version)
    if isExpecting:
        world.factory.secrets.add(SECRET)
    there, here = makeAddress("192.0.2.7", 4000), makeAddress("192.168.1.2", 80)
    stranger, _ = world.come(Transport(peerAddress=there, hostAddress=here))
    stranger.dataReceived(b"GET / HTTP/1.1\r\n")
    assert world.serve().value() == version.pack(Ends(there, here), None) + b"GET / HTTP/1.1\r\n"


def test_whoIsLetInIsCountedOnce() -> None:
    world = expecting()
    visitors = [world.come()[0] for _ in range(MOST_CONNECTIONS)]
    world.clock.advance(SILENCE)
    assert world.factory.buildProtocol(None) is None
    for visitor in visitors:
        visitor.connectionLost(lost())
    assert not world.factory._strangers
