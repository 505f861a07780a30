"""
Tests for L{punchd.server.dialling}, and of the commands that lead there.
"""

from typing import Any

import pytest
from attrs import define, evolve, field
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock

from punchd.errors import Refused, Unreachable
from punchd.server.dialling import (
    DIAL_BACKS_AT_ONCE,
    MOST_DIALLING,
    PROOF_PATIENCE,
    Dialling,
)
from punchd.server.sessions import Session
from punchd.values.addresses import Address, makeAddress
from punchd.values.naming import Listing
from punchd.values.probes import Answer, Finding
from punchd.wire.commands import MOST_MAPPED
from punchd.wire.listing import MOST_PUBLISHED
from punchd.wire.proving import CHALLENGE_LENGTH, Challenge
from tests.unit.net.memory import MemoryTransport, lost
from tests.unit.server.pretending import Counter, PretendedProber, makeSession, public

SECRET = b"s" * 32


@define
class World:
    """
    A server that dials nobody really.
    """

    clock: MemoryReactorClock = field(factory=MemoryReactorClock)
    prober: PretendedProber = field(factory=PretendedProber)
    dialling: Dialling = field(init=False)
    session: Session = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.dialling = Dialling(self.clock, Counter(), self.prober)
        self.session = makeSession(self.clock, 1)

    def prove(self, port: int = 4000, session: Session | None = None) -> list[Any]:
        results: list[Any] = []
        proving = self.dialling.prove(session or self.session, port, SECRET)
        proving.addBoth(results.append)
        return results

    def connect(self) -> tuple[Any, MemoryTransport]:
        """
        Let the latest connection open.
        """
        host, port, factory, _, _ = self.clock.tcpClients[-1]
        protocol: Any = factory.buildProtocol(makeAddress(host, port))
        transport = MemoryTransport(protocol, False)
        protocol.makeConnection(transport)
        return protocol, transport


def resultsOf(dialling: Deferred[Any]) -> list[Any]:
    results: list[Any] = []
    dialling.addBoth(results.append)
    return results


def test_whatCameBackIsTold() -> None:
    world = World()
    results = resultsOf(world.dialling.dialBack(world.session, public(1), "203.0.113.2"))
    assert world.prober.probes == [(public(1), "203.0.113.2")]
    world.prober.found[0].callback(Finding(Answer.ICMP, 0.1, "192.0.2.1"))
    assert results == [Answer.ICMP]
    assert len(world.dialling) == 0


def test_aPeerIsNotDialledAllTheTime() -> None:
    world = World()
    for _ in range(int(DIAL_BACKS_AT_ONCE)):
        world.dialling.dialBack(world.session, public(1), "")
    with pytest.raises(Refused):
        world.dialling.dialBack(world.session, public(1), "")
    with pytest.raises(Refused):
        world.dialling.prove(world.session, 4000, SECRET)
    # Another one may.
    world.dialling.dialBack(makeSession(world.clock, 2), public(2), "")


def test_thereIsAnEndToDialling() -> None:
    world = World()
    for number in range(MOST_DIALLING):
        session = makeSession(world.clock, number % 200)
        world.dialling.dialBack(session, public(1), "")
    with pytest.raises(Refused, match="too many"):
        world.dialling.dialBack(world.session, public(1), "")


def test_theEndOfTheServerEndsIt() -> None:
    world = World()
    waiting = resultsOf(world.dialling.dialBack(world.session, public(1), ""))
    proving = world.prove()
    world.dialling.stop()
    for one in (waiting, proving):
        assert one[0].check(Unreachable) is not None
    assert world.clock.getDelayedCalls() == []


def test_onlyTheHostThatIsSeenIsDialled() -> None:
    world = World()
    world.prove(4000)
    host, port, _, timeout, _ = world.clock.tcpClients[0]
    assert (host, port) == (world.session.observed.host, 4000)
    assert timeout == PROOF_PATIENCE


@pytest.mark.parametrize("port", [0, -1, 65536, 10**9])
def test_whatIsNoPortIsNotDialled(port: int) -> None:
    world = World()
    with pytest.raises(Refused):
        world.dialling.prove(world.session, port, SECRET)
    assert world.clock.tcpClients == []


@pytest.mark.parametrize("host", ["127.0.0.1", "172.17.0.1", "169.254.169.254", "::1", "fd00::1"])
def test_nothingIsDialledButWhatEverybodyCanReach(host: str) -> None:
    """
    A server that sees its peers through a forwarder of its own network must not dial into that.
    """
    world = World()
    session = makeSession(world.clock, 2, observed=makeAddress(host, 4000))
    with pytest.raises(Refused):
        world.dialling.prove(session, 4000, SECRET)
    assert world.clock.tcpClients == []


def mapped(port: int) -> Address:
    return makeAddress(public(1).host, port)


def test_whoKnowsTheSecretHasTheAddress() -> None:
    world = World()
    results = world.prove()
    protocol, transport = world.connect()
    answer = Challenge.unpack(transport.sent).answer([SECRET])
    assert answer is not None
    protocol.dataReceived(answer[:10])
    assert results == []
    protocol.dataReceived(answer[10:])
    assert results == [True]
    assert transport.isAborted
    assert world.session.proven == {mapped(4000)}
    protocol.connectionLost(lost())
    assert world.clock.getDelayedCalls() == []


@pytest.mark.parametrize("said", [bytes(32), bytes(33), b"HTTP/1.0 400 Bad Request\r\n\r\n" * 3])
def test_whoSaysAnythingElseDoesNot(said: bytes) -> None:
    world = World()
    results = world.prove()
    protocol, transport = world.connect()
    protocol.dataReceived(said)
    assert transport.isAborted
    # Nobody shall learn from the time what others do at their ports.
    assert results == []
    world.clock.advance(PROOF_PATIENCE)
    assert results == [False]
    assert world.session.proven == frozenset()


def test_anEchoProvesNothing() -> None:
    world = World()
    results = world.prove()
    protocol, transport = world.connect()
    assert len(transport.sent) == CHALLENGE_LENGTH
    protocol.dataReceived(transport.sent)
    world.clock.advance(PROOF_PATIENCE)
    assert results == [False]


def test_whoSaysNothingHasNotMuchTime() -> None:
    world = World()
    results = world.prove()
    _, transport = world.connect()
    world.clock.advance(PROOF_PATIENCE)
    assert results == [False]
    assert transport.isAborted


def test_whoCannotBeReachedHasNothing() -> None:
    world = World()
    results = world.prove()
    factory: Any = world.clock.tcpClients[0][2]
    factory.clientConnectionFailed(None, lost())
    assert results == []
    world.clock.advance(PROOF_PATIENCE)
    assert results == [False]
    assert world.clock.getDelayedCalls() == []


def test_aLeaseThatIsGoneIsProvenNoLonger() -> None:
    world = World()
    world.session.proven = frozenset([mapped(4000), mapped(4001)])
    world.prove(4000)
    world.clock.advance(PROOF_PATIENCE)
    assert world.session.proven == {mapped(4001)}


def test_noMoreIsKeptThanCanBeOffered() -> None:
    world = World()
    world.session.offer = evolve(world.session.offer, mapped=(mapped(4000),))
    world.session.listing = Listing(False, (("web", 4001),))
    for port in range(4000, 4030):
        world.prove(port)
        protocol, transport = world.connect()
        protocol.dataReceived(Challenge.unpack(transport.sent).answer([SECRET]))
    proven = world.session.proven
    assert {mapped(4029), mapped(4000), mapped(4001)} <= proven
    assert len(proven) <= MOST_MAPPED + MOST_PUBLISHED + 1
