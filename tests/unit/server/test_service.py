"""
Tests for L{punchd.server.service}.
"""

from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.application.service import IService
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IProtocolFactory, IStreamServerEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from punchd.errors import ConfigurationError
from punchd.identity.certificates import selfSigned
from punchd.identity.folder import StateFolder
from punchd.identity.keys import Identity
from punchd.server.registry.memory import MemoryRegistry
from punchd.server.service import (
    JOIN_FILE,
    PunchdServer,
    registryFor,
)
from punchd.wire.commands import Assist, Relay
from tests.unit.server.pretending import Watcher, public


@define
class Port:
    """
    A port that stays open until it is closed.
    """

    address: IAddress
    isOpen: bool = True

    def getHost(self) -> IAddress:
        return self.address

    def stopListening(self) -> Deferred[None]:
        self.isOpen = False
        return succeed(None)


@implementer(IStreamServerEndpoint)
@define
class Endpoint:
    """
    An endpoint that listens when, and as, it is told.
    """

    address: IAddress = field(factory=lambda: IPv4Address("TCP", "0.0.0.0", 7761))
    result: Deferred[Any] | None = None
    factory: Any = None
    port: Port | None = None

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        self.factory = protocolFactory
        self.port = Port(self.address)
        return succeed(self.port) if self.result is None else self.result


def taken() -> Endpoint:
    error = CannotListenError("", 7762, OSError(98, "Address already in use"))
    return Endpoint(result=fail(error))


@define
class ClosingRegistry(MemoryRegistry):
    isClosed: bool = False

    def close(self) -> Deferred[None]:
        self.isClosed = True
        return succeed(None)


@define
class World:
    """
    A server on pretended ports.
    """

    path: Path
    master: Endpoint = field(factory=Endpoint)
    assists: list[Endpoint] = field(factory=lambda: [Endpoint(IPv4Address("TCP", "0.0.0.0", 7762))])
    hosts: tuple[str, ...] = ("server.example", "192.0.2.1")
    clock: Clock = field(factory=Clock)
    registry: ClosingRegistry = field(factory=ClosingRegistry)
    watcher: Watcher = field(factory=Watcher)

    def make(self, **arguments: Any) -> PunchdServer:
        return PunchdServer(
            reactor=self.clock,
            folder=StateFolder.at(str(self.path)),
            hosts=self.hosts,
            masterEndpoint=self.master,
            assistEndpoints=self.assists,
            registry=self.registry,
            observer=self.watcher,
            **arguments,
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def start(server: PunchdServer) -> None:
    server.startService()
    assert resultOf(server.whenListening()) is None


def resultOf(deferred: Deferred[Any]) -> Any:
    results: list[Any] = []
    deferred.addBoth(results.append)
    return results[0] if results else NOTHING


NOTHING = object()


def test_itIsAService(world: World) -> None:
    verifyObject(IService, world.make())


def test_theJoinAddressNamesTheFirstHostThePortAndTheKey(world: World) -> None:
    server = world.make()
    assert server.joinAddress is None
    start(server)
    assert str(server.joinAddress) == f"server.example:7761#{server.identity.peerID}"
    resultOf(server.stopService())


def test_theJoinAddressStandsInAFile(world: World) -> None:
    server = world.make()
    start(server)
    assert (world.path / JOIN_FILE).read_text() == f"{server.joinAddress}\n"
    resultOf(server.stopService())


def test_anIPv6HostStandsInBrackets(tmp_path: Path) -> None:
    server = World(tmp_path, hosts=("2001:db8::1",)).make()
    start(server)
    assert str(server.joinAddress).startswith("[2001:db8::1]:7761#")
    resultOf(server.stopService())


def test_theKeyOutlivesTheServer(world: World) -> None:
    assert world.make().identity.peerID == world.make().identity.peerID


def test_broughtCredentialsTakeThePlaceOfTheKey(world: World) -> None:
    identity = Identity.of(Ed25519PrivateKey.generate())
    server = world.make(credentials=selfSigned(identity))
    assert server.identity.peerID == identity.peerID
    assert not (world.path / "key.pem").exists()


@pytest.mark.parametrize(
    ("master", "assist", "told"),
    [
        (IPv4Address("TCP", "0.0.0.0", 1), IPv4Address("TCP", "0.0.0.0", 2), Assist(None, 2)),
        (IPv6Address("TCP", "::", 1), IPv6Address("TCP", "::", 2), Assist(None, 2)),
        (
            IPv4Address("TCP", "127.0.0.1", 1),
            IPv4Address("TCP", "127.0.0.1", 2),
            Assist(None, 2),
        ),
        (
            IPv4Address("TCP", "192.0.2.1", 1),
            IPv4Address("TCP", "192.0.2.2", 2),
            Assist("192.0.2.2", 2),
        ),
        (
            IPv4Address("TCP", "0.0.0.0", 1),
            IPv4Address("TCP", "192.0.2.2", 2),
            Assist("192.0.2.2", 2),
        ),
    ],
)
def test_assistServicesOfAnAddressOfTheirOwnAreToldWithIt(
    tmp_path: Path, master: IAddress, assist: IAddress, told: Assist
) -> None:
    world = World(tmp_path, Endpoint(master), [Endpoint(assist)])
    server = world.make()
    start(server)
    assert server._exchange.assists == [told]
    resultOf(server.stopService())


@pytest.mark.parametrize(
    ("relay", "told"),
    [
        (None, []),
        (IPv4Address("TCP", "0.0.0.0", 7764), [Relay(None, 7764)]),
        (IPv4Address("TCP", "192.0.2.2", 443), [Relay("192.0.2.2", 443)]),
    ],
)
def test_peersAreToldWhereTheRelayIs(
    world: World, relay: IAddress | None, told: list[Relay]
) -> None:
    endpoint = None if relay is None else Endpoint(relay)
    server = world.make(relayEndpoint=endpoint)
    start(server)
    assert server._exchange.relays == told
    assert (server._introductions.relay is None) is (relay is None)
    resultOf(server.stopService())
    assert endpoint is None or not (endpoint.port and endpoint.port.isOpen)


def test_aRelayWhosePortIsTakenSaysSo(world: World) -> None:
    server = world.make(relayEndpoint=taken())
    server.startService()
    failure = resultOf(server.whenListening())
    assert failure.check(ConfigurationError)
    assert "choose another one with --relay" in failure.getErrorMessage()
    resultOf(server.stopService())


def test_listeningMayBeAskedForBeforeTheStart(world: World) -> None:
    server = world.make()
    assert resultOf(server.listen()) is None
    port = world.master.port
    start(server)
    assert world.master.port is port
    resultOf(server.stopService())


def test_aPortThatIsTakenIsToldInOneLine(tmp_path: Path) -> None:
    server = World(tmp_path, assists=[taken()]).make()
    server.startService()
    failure = resultOf(server.whenListening())
    assert failure.check(ConfigurationError)
    assert failure.getErrorMessage() == (
        "cannot listen on * port 7762: Address already in use; choose another one with --assist"
    )
    resultOf(server.stopService())


def test_portsTakenBeforeAFailureAreGivenBack(tmp_path: Path) -> None:
    world = World(tmp_path, assists=[taken()])
    server = world.make()
    server.startService()
    resultOf(server.whenListening())
    resultOf(server.stopService())
    assert world.master.port is not None
    assert not world.master.port.isOpen
    assert not (tmp_path / JOIN_FILE).exists()


def test_everyoneWhoWaitsIsTold(tmp_path: Path) -> None:
    server = World(tmp_path, assists=[taken()]).make()
    before = server.whenListening()
    server.startService()
    for waiting in (before, server.whenListening(), server.whenListening()):
        assert resultOf(waiting).check(ConfigurationError)
    resultOf(server.stopService())


@pytest.mark.parametrize("error", [OverflowError("port must be 0-65535."), ValueError("no")])
def test_otherMistakesOfAnEndpointAreToldToo(tmp_path: Path, error: Exception) -> None:
    server = World(tmp_path, Endpoint(result=fail(error))).make()
    failure = resultOf(server.listen())
    assert failure.check(ConfigurationError)
    assert str(error) in failure.getErrorMessage()
    resultOf(server.stopService())


def test_onlyTCPWillDo(tmp_path: Path) -> None:
    server = World(tmp_path, Endpoint(UNIXAddress(b"/run/x"))).make()
    assert resultOf(server.listen()).check(ConfigurationError)
    resultOf(server.stopService())


def test_stoppingClosesEverything(world: World) -> None:
    server = world.make()
    start(server)
    transport = StringTransport()
    transport.setTcpNoDelay = lambda enabled: None  # type: ignore[attr-defined]
    guest = world.assists[0].factory.buildProtocol(public(1))
    guest.makeConnection(transport)
    stopped = server.stopService()
    assert transport.disconnecting
    assert resultOf(stopped) is NOTHING
    guest.connectionLost(Failure(ConnectionError()))
    assert stopped.called
    assert world.registry.isClosed
    assert world.master.port is not None
    assert not world.master.port.isOpen
    assert not world.clock.getDelayedCalls()


def test_stoppingWaitsForPortsThatAreStillBeingTaken(tmp_path: Path) -> None:
    world = World(tmp_path, Endpoint(result=Deferred()))
    server = world.make()
    server.startService()
    stopped = server.stopService()
    assert resultOf(stopped) is NOTHING
    assert world.master.result is not None
    world.master.result.callback(world.master.port)
    assert stopped.called
    assert world.master.port is not None
    assert not world.master.port.isOpen


def test_whoIsOverdueIsNoticedEverySecond(world: World) -> None:
    server = world.make()
    start(server)
    transport = StringTransport()
    transport.setTcpNoDelay = lambda enabled: None  # type: ignore[attr-defined]
    guest = world.assists[0].factory.buildProtocol(public(1))
    guest.makeConnection(transport)
    world.clock.pump([1] * 6)
    assert transport.disconnecting
    guest.connectionLost(Failure(ConnectionError()))
    resultOf(server.stopService())


def test_aRegistryIsChosenByItsScheme() -> None:
    assert isinstance(registryFor("memory:", None), MemoryRegistry)


@pytest.mark.parametrize("uri", ["carrier-pigeon:coop", "memory", "", ":x"])
def test_anUnknownRegistryIsRefusedNamingTheKnownOnes(uri: str) -> None:
    with pytest.raises(ConfigurationError, match="memory:, sqlite:"):
        registryFor(uri, None)
