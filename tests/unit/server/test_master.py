"""
Tests for L{punchd.server.master}: the conversation inside real TLS, on pretended TCP.
"""

from typing import Any

import pytest
from attrs import define, field
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from OpenSSL import SSL
from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.protocols import amp
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.test.iosim import FakeTransport, IOPump, connect
from zope.interface.verify import verifyObject

from punchd.identity.certificates import Credentials, selfSigned
from punchd.identity.keys import Identity
from punchd.identity.tls import ConnectionCreator, Verdict, makeContext, onlyPeer
from punchd.server.conversation import LOGIN_PATIENCE, Exchange
from punchd.server.dialling import Dialling
from punchd.server.gate import CLOSING_PATIENCE
from punchd.server.introductions import Introductions
from punchd.server.limits import Complaints, Strangers
from punchd.server.master import BOXES_AT_ONCE, MasterConnection, MasterGate
from punchd.server.observations import Observations
from punchd.server.registry.memory import MemoryRegistry
from punchd.server.sessions import SILENCE, Population
from punchd.wire.boxes import BoundedAMP
from punchd.wire.commands import Farewell, Hello, Introduce, Introduction, Ping
from punchd.wire.versions import LINK_ALPN, MASTER_ALPN
from tests.unit.server.pretending import Counter, Journal, PretendedProber, Watcher, public


def makeIdentity() -> Identity:
    return Identity.of(Ed25519PrivateKey.generate())


SERVER = makeIdentity()
ALICE = makeIdentity()
BOB = makeIdentity()


class Peer(amp.CommandLocator):
    """
    The other end's side of a master connection.
    """

    def __init__(self) -> None:
        self.farewells: list[str] = []
        self.introductions: list[dict[str, Any]] = []
        self.pings = 0

    @Farewell.responder
    def _farewell(self, reason: str) -> dict[str, Any]:
        self.farewells.append(reason)
        return {}

    @Introduction.responder
    def _introduction(self, **arguments: Any) -> dict[str, Any]:
        self.introductions.append(arguments)
        return {}

    @Ping.responder
    def _ping(self) -> dict[str, Any]:
        self.pings += 1
        return {}


class Raw(Protocol):
    """
    An end that sends bytes and counts what comes.
    """

    def __init__(self) -> None:
        self.received = b""
        self._isLost = False

    def isLost(self) -> bool:
        return self._isLost

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._isLost = True


@define
class World:
    """
    A master service without sockets.
    """

    clock: Clock = field(factory=Clock)
    watcher: Watcher = field(factory=Watcher)
    journal: Journal = field(factory=Journal)
    strangers: Strangers = field(init=False)
    exchange: Exchange = field(init=False)
    gate: MasterGate = field(init=False)
    pumps: list[IOPump] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        population = Population()
        complaints = Complaints(Logger(observer=self.journal))
        self.strangers = Strangers(self.clock)
        self.exchange = Exchange(
            self.clock,
            MemoryRegistry(),
            self.watcher,
            complaints,
            population,
            Introductions(self.clock, Counter(), population, self.watcher),
            Observations(self.clock, Counter()),
            Dialling(self.clock, Counter(), PretendedProber()),
        )
        self.gate = MasterGate(
            clock=self.clock,
            credentials=selfSigned(SERVER),
            exchange=self.exchange,
            strangers=self.strangers,
            complaints=complaints,
        )

    def connect(self, client: Any, number: int = 1) -> IOPump:
        """
        A TCP connection to the server.
        """
        server = self.gate.buildProtocol(public(number))
        pump: IOPump = connect(
            server,
            FakeTransport(server, isServer=True, peerAddress=public(number)),
            client,
            FakeTransport(client, isServer=False),
            clock=self.clock,
        )
        self.pumps.append(pump)
        return pump

    def connectTLS(
        self,
        inside: Any,
        number: int = 1,
        identity: Identity = ALICE,
        alpn: bytes | None = MASTER_ALPN,
    ) -> IOPump:
        return self.connect(overTLS(inside, selfSigned(identity), alpn), number)

    def logIn(
        self, name: str, identity: Identity, number: int = 1, **arguments: Any
    ) -> tuple[BoundedAMP, Peer, list[Any]]:
        peer = Peer()
        client = BoundedAMP(peer, lambda violation: None)
        pump = self.connectTLS(client, number, identity)
        answers: list[Any] = []
        greeting = {
            "version": 1,
            "oldest": 1,
            "name": name,
            "accepts": frozenset(),
            "hosts": [],
            "mapping": None,
            "strategies": [],
            **arguments,
        }
        client.callRemote(Hello, **greeting).addBoth(answers.append)
        pump.flush()
        return client, peer, answers

    def flush(self) -> None:
        for pump in self.pumps:
            pump.flush()

    def pass_(self, seconds: float) -> None:
        """
        Let time pass, with everything that the server does every second.
        """
        for _ in range(round(seconds)):
            self.clock.advance(1)
            self.gate.sweep()
            self.flush()

    @property
    def complaints(self) -> list[str]:
        return self.journal.texts


def overTLS(inside: Any, credentials: Credentials, alpn: bytes | None) -> TLSMemoryBIOProtocol:
    context = makeContext(credentials, alpn or MASTER_ALPN)
    if alpn is None:
        context = SSL.Context(SSL.TLS_METHOD)
        context.use_privatekey(credentials.identity.key)
        context.use_certificate(credentials.certificate)
        context.set_verify(SSL.VERIFY_NONE, lambda *arguments: True)
    judge = onlyPeer(SERVER.peerID, "the server")
    creator = ConnectionCreator(context, lambda: Verdict(judge))
    return TLSMemoryBIOProtocol(TLSMemoryBIOFactory(creator, True, Factory(), Clock()), inside)


@pytest.fixture
def world() -> World:
    return World()


def test_theConnectionListensToTheHandshakeAndToItsTransport(world: World) -> None:
    connection = MasterConnection(world.gate, world.exchange, public(1))
    verifyObject(IHandshakeListener, connection)
    verifyObject(IPushProducer, connection)


def test_thePeerIsWhoItHasProvenToBe(world: World) -> None:
    _, _, answers = world.logIn("alice", ALICE)
    assert answers[0]["observed"] == public(1)
    session = world.exchange.population.get(ALICE.peerID)
    assert session is not None
    assert session.name == "alice"


def test_whoHasLoggedInIsNoStranger(world: World) -> None:
    world.logIn("alice", ALICE)
    assert world.strangers._total == 0


def test_twoPeersAreIntroduced(world: World) -> None:
    alice, _, _ = world.logIn("alice", ALICE)
    _, bob, _ = world.logIn("bob", BOB, 2, accepts=frozenset({ALICE.peerID}))
    answers: list[Any] = []
    alice.callRemote(Introduce, peer=BOB.peerID, hosts=[], strategies=[]).addBoth(answers.append)
    world.flush()
    world.clock.advance(1)
    world.flush()
    assert answers[0]["reflexive"] == public(2)
    assert [told["caller"] for told in bob.introductions] == [ALICE.peerID]


def test_aPeerThatLeavesIsForgotten(world: World) -> None:
    client, _, _ = world.logIn("alice", ALICE)
    assert client.transport is not None
    client.transport.loseConnection()
    world.flush()
    assert len(world.exchange.population) == 0
    assert world.gate.showOut("the end").called
    assert world.complaints == []


def test_aSecondLoginEndsTheFirst(world: World) -> None:
    first, peer, _ = world.logIn("alice", ALICE)
    world.logIn("alice", ALICE)
    world.flush()
    assert peer.farewells == ["another connection of the same key has taken over"]
    assert first.transport is None
    assert len(world.exchange.population) == 1


def test_aReplacedConnectionThatIsDeadIsTornDown(world: World) -> None:
    world.logIn("alice", ALICE)
    dead = world.pumps.pop()
    world.logIn("alice", ALICE)
    assert not dead.serverIO.disconnecting
    world.pass_(CLOSING_PATIENCE)
    assert dead.serverIO.disconnecting


def test_pingsComeAndAnswersTellTheWay(world: World) -> None:
    _, peer, _ = world.logIn("alice", ALICE)
    world.pass_(3)
    assert peer.pings == 3
    session = world.exchange.population.get(ALICE.peerID)
    assert session is not None
    assert session.oneWay is not None


def test_aSilentPeerIsDropped(world: World) -> None:
    world.logIn("alice", ALICE)
    world.pumps.clear()
    world.pass_(SILENCE + 1)
    assert len(world.exchange.population) == 0


def test_aPeerThatPingsStays(world: World) -> None:
    client, _, _ = world.logIn("alice", ALICE)
    for _ in range(20):
        client.callRemote(Ping)
        world.flush()
        world.pass_(3)
    assert len(world.exchange.population) == 1


def test_aPeerThatDoesNotReadIsDropped(world: World) -> None:
    world.logIn("alice", ALICE)
    server: Any = world.pumps[0].server
    server.wrappedProtocol.pauseProducing()
    world.flush()
    assert len(world.exchange.population) == 0
    assert world.complaints == ["198.51.100.1:5000 (alice): does not read what it is sent"]


def test_whoDoesNotLogInIsDropped(world: World) -> None:
    client = Raw()
    world.connectTLS(client)
    world.pass_(LOGIN_PATIENCE - 1)
    assert not client.isLost()
    world.pass_(1)
    assert client.isLost()
    assert world.complaints == ["198.51.100.1:5000: not logged in within 10 s"]
    assert world.strangers._total == 0


def test_whoDoesNotBeginTLSIsDropped(world: World) -> None:
    client = Raw()
    world.connect(client)
    world.pass_(LOGIN_PATIENCE)
    assert client.isLost()


def test_whatIsNoTLSIsOneLineInTheLog(world: World) -> None:
    client = Raw()
    pump = world.connect(client)
    assert client.transport is not None
    client.transport.write(b"GET / HTTP/1.0\r\n\r\n")
    pump.flush()
    assert client.isLost()
    assert len(world.complaints) == 1
    assert world.complaints[0].startswith("198.51.100.1:5000: TLS failed: ")


def test_whoConnectsAndGoesIsNoLineInTheLog(world: World) -> None:
    client = Raw()
    pump = world.connect(client)
    assert client.transport is not None
    client.transport.loseConnection()
    pump.flush()
    assert world.complaints == []
    assert world.strangers._total == 0


@pytest.mark.parametrize("alpn", [LINK_ALPN, None])
def test_anotherProtocolInsideTLSIsRefused(world: World, alpn: bytes | None) -> None:
    client = Raw()
    world.connectTLS(client, alpn=alpn)
    world.flush()
    assert client.isLost()
    assert len(world.complaints) == 1


def send(world: World, data: bytes) -> Raw:
    client = Raw()
    pump = world.connectTLS(client)
    assert client.transport is not None
    client.transport.write(data)
    pump.flush()
    world.pass_(CLOSING_PATIENCE + 1)
    return client


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff" * 10,
        b"\x00\x00",
        b"\x00\x04_ask\x00\x011\x00\x00",
        b"\x00\x07_answer\x00\x011\x00\x00",
        b"\x00\x06_error\x00\x011\x00\x00",
        b"\x00\x01a\xff\xff" + bytes(70000),
        amp.AmpBox({b"_command": b"ping", b"_ask": b"1"}).serialize(),
        amp.AmpBox({b"_command": b"hello", b"_ask": b"1"}).serialize(),
        amp.AmpBox({b"_command": b"hello"}).serialize(),
    ],
)
def test_aViolationIsOneLineInTheLogAndTheEnd(world: World, data: bytes) -> None:
    client = send(world, data)
    assert client.isLost()
    assert len(world.complaints) == 1, world.complaints
    assert world.strangers._total == 0


def test_anUnknownCommandIsAnsweredAndForgiven(world: World) -> None:
    client = send(world, amp.AmpBox({b"_command": b"dance", b"_ask": b"1"}).serialize())
    assert b"UNHANDLED" in client.received
    assert not client.isLost()


def test_theReasonIsToldBeforeTheEnd(world: World) -> None:
    client = send(world, amp.AmpBox({b"_command": b"ping", b"_ask": b"1"}).serialize())
    assert b"PROTOCOL_VIOLATION" in client.received


def test_tooManyBoxesAreAViolation(world: World) -> None:
    client, _, _ = world.logIn("alice", ALICE)
    results: list[Any] = []
    for _ in range(int(BOXES_AT_ONCE) + 1):
        client.callRemote(Ping).addBoth(results.append)
    world.flush()
    assert client.transport is None
    assert world.complaints == ["198.51.100.1:5000 (alice): more than 200 boxes a second"]


def test_allAreToldWhenTheServerEnds(world: World) -> None:
    peers = [world.logIn(name, who)[1] for name, who in (("alice", ALICE), ("bob", BOB))]
    stranger = Raw()
    world.connect(stranger)
    done = world.gate.showOut("the server ends")
    world.flush()
    assert done.called
    assert [peer.farewells for peer in peers] == [["the server ends"]] * 2
    assert stranger.isLost()
    assert not world.clock.getDelayedCalls()
