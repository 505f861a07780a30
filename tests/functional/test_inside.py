"""
Tests for L{punchd.peer.service}: a server and peers inside this process, on real sockets. What they
leave in the reactor when they are stopped fails the test.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import define, field
from pytest_twisted import ensureDeferred
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    connectProtocol,
    serverFromString,
)
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from punchd.errors import NoPath, PunchdError, Refused, UnknownPeer, Unreachable
from punchd.identity.certificates import selfSigned
from punchd.identity.folder import StateFolder
from punchd.identity.keys import Identity
from punchd.identity.tls import ConnectionCreator, Verdict, anybody, makeContext
from punchd.interfaces import IObserver
from punchd.link.stream import Stream
from punchd.peer import pace
from punchd.peer.exposure import Exposure
from punchd.peer.forwarding import ForwardFactory, Target
from punchd.peer.service import PunchdPeer
from punchd.plugin import loadStrategies, strategyMakers
from punchd.server.registry.memory import MemoryRegistry
from punchd.server.relaylimits import Bound, RelayLimits
from punchd.server.service import PunchdServer
from punchd.values.addresses import Address, makeAddress, showAddress
from punchd.values.happenings import Happening
from punchd.values.joining import JoinAddress
from punchd.values.parties import Offer
from punchd.values.peers import PeerID
from punchd.wire.boxes import BoundedAMP
from punchd.wire.commands import OWN, Hello, Introduction, Ping, toldArguments
from punchd.wire.proxying import ProxyVersion
from punchd.wire.versions import MASTER_ALPN
from tests.functional.peers import Echo, portOf, serve
from tests.functional.processes import PATIENCE, sleep


@implementer(IObserver)
@define
class Watcher:
    """
    Remembers what happened.
    """

    steps: list[str] = field(factory=list)

    def happened(self, happening: Happening) -> None:
        self.steps.append(happening.step)


class Collector(Protocol):
    """
    The user of a stream.
    """

    transport: Any

    def __init__(self) -> None:
        self.received = b""
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


async def until(isSo: Callable[[], object]) -> None:
    """
    Wait until something is so.
    """
    for _ in range(int(PATIENCE / 0.01)):
        if isSo():
            return
        await sleep(0.01)
    raise AssertionError("it did not come to pass")


@define
class Inside:
    """
    Servers, peers and services in this process.
    """

    folder: Path
    stopping: list[Callable[[], Any]] = field(factory=list)

    async def server(self, name: str = "server", **options: Any) -> PunchdServer:
        from twisted.internet import reactor

        def endpoint() -> TCP4ServerEndpoint:
            return TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")

        server = PunchdServer(
            reactor=reactor,
            folder=StateFolder.at(str(self.folder / name)),
            hosts=["127.0.0.1"],
            masterEndpoint=endpoint(),
            assistEndpoints=[endpoint(), endpoint()],
            registry=MemoryRegistry(),
            observer=Watcher(),
            # Here everybody is at a loopback address.
            isProvable=lambda address: True,
            **options,
        )
        await server.listen()
        server.startService()
        self.stopping.append(server.stopService)
        return server

    def peer(self, name: str, *servers: JoinAddress | None, **options: Any) -> PunchdPeer:
        from twisted.internet import reactor

        peer = PunchdPeer(
            reactor=reactor,
            folder=StateFolder.at(str(self.folder / name)),
            name=name,
            servers=[join for join in servers if join is not None],
            strategies=options.pop("strategies", loadStrategies(strategyMakers())),
            observer=options.pop("observer", Watcher()),
            **options,
        )
        self.stopping.append(peer.stopService)
        return peer

    def exposure(self, service: IListeningPort, version: ProxyVersion | None = None) -> Exposure:
        """
        What leads to a service on this machine.
        """
        from twisted.internet import reactor

        self.stopping.append(service.stopListening)
        return Exposure(TCP4ClientEndpoint(reactor, "127.0.0.1", portOf(service)), version)

    async def pair(
        self, server: PunchdServer | None = None, **options: Any
    ) -> tuple[PunchdPeer, PunchdPeer]:
        """
        Alice, and Bob who exposes C{echo}, both connected to a server.
        """
        server = server or await self.server()
        echo = self.exposure(serve(Echo))
        alice = self.peer("alice", server.joinAddress, **options)
        bob = self.peer("bob", server.joinAddress, exposures={"echo": echo}, **options)
        for one, other in ((alice, bob), (bob, alice)):
            one.pins.trust(str(other.name), other.identity.peerID)
            one.startService()
        await until(lambda: isConnected(alice) and isConnected(bob))
        return alice, bob

    async def stop(self) -> None:
        for stop in reversed(self.stopping):
            await stop()
        self.stopping.clear()


def isConnected(peer: PunchdPeer) -> bool:
    connected: bool = peer.describe()["master"] == "connected"
    return connected


async def opened(peer: PunchdPeer, name: str, service: str) -> Stream:
    stream = await peer.opener.openStream(name, service)
    assert isinstance(stream, Stream)
    return stream


@pytest_twisted.async_yield_fixture
async def inside(tmp_path: Path) -> AsyncIterator[Inside]:
    here = Inside(tmp_path)
    yield here
    await here.stop()


@ensureDeferred
async def test_aStreamCarriesBytes(inside: Inside) -> None:
    alice, _ = await inside.pair()
    stream = await opened(alice, "bob", "echo")
    user = Collector()
    stream.carry(user)
    user.transport.write(b"hello")
    await until(lambda: user.received == b"hello")


@ensureDeferred
async def test_severalStreamsToOnePeerDoNotMix(inside: Inside) -> None:
    alice, _ = await inside.pair()
    users = []
    for number in range(4):
        stream = await opened(alice, "bob", "echo")
        users.append(Collector())
        stream.carry(users[-1])
        users[-1].transport.write(b"%d" % number)
    await until(lambda: [user.received for user in users] == [b"0", b"1", b"2", b"3"])


@ensureDeferred
async def test_streamsAtTheSameMomentAllOpen(inside: Inside) -> None:
    alice, _ = await inside.pair()
    opening = [opened(alice, "bob", "echo") for _ in range(4)]
    waiting = [Deferred.fromCoroutine(one) for one in opening]
    streams = [await one for one in waiting]
    assert len({id(stream) for stream in streams}) == 4


@ensureDeferred
async def test_bothMayCallEachOtherAtTheSameMoment(inside: Inside) -> None:
    alice, bob = await inside.pair()
    waiting = [alice.opener.reach("bob", again=False), bob.opener.reach("alice", again=False)]
    for one in waiting:
        assert (await one).session.isConnected


@ensureDeferred
async def test_theLinksTellOfThePathOnBothSides(inside: Inside) -> None:
    alice, bob = await inside.pair()
    stream = await opened(alice, "bob", "echo")
    await stream.opened
    for peer, other in ((alice, "bob"), (bob, "alice")):
        link = peer.describe()["links"][other]
        assert (link["path"], link["streams"]) == ("direct", 1)


@pytest.mark.parametrize("strategy", ["simultaneous", "sequential"])
@ensureDeferred
async def test_eachStrategyFindsThePathAlone(inside: Inside, strategy: str) -> None:
    alice, bob = await inside.pair(order=[strategy])
    link = await alice.opener.reach("bob", again=False)
    await link.session.measure()
    for peer, other in ((alice, "bob"), (bob, "alice")):
        assert peer.describe()["links"][other]["strategy"] == strategy


@ensureDeferred
async def test_stoppingWithOpenStreamsLeavesNothing(inside: Inside) -> None:
    alice, _ = await inside.pair()
    stream = await opened(alice, "bob", "echo")
    stream.carry(Collector())
    await inside.stop()
    await until(lambda: stream.isOver)


@ensureDeferred
async def test_stoppingWhileAStreamIsBeingOpenedLeavesNothing(inside: Inside) -> None:
    alice, _ = await inside.pair()
    opening = alice.opener.openStream("bob", "echo")
    ended: list[object] = []
    opening.addErrback(lambda failure: ended.append(failure.check(CancelledError, PunchdError)))
    await inside.stop()
    assert ended
    assert ended[0] is not None


@ensureDeferred
async def test_stoppingWhileLoggingInLeavesNothing(inside: Inside) -> None:
    server = await inside.server()
    peer = inside.peer("alice", server.joinAddress)
    peer.startService()
    await inside.stop()


@ensureDeferred
async def test_stoppingWhileTheServerIsSilentLeavesNothing(inside: Inside) -> None:
    silent = serve(Protocol)
    inside.stopping.append(silent.stopListening)
    peer = inside.peer("alice", JoinAddress("127.0.0.1", portOf(silent), PeerID(b"x" * 32)))
    peer.startService()
    await sleep(0.05)
    await peer.stopService()
    inside.stopping.pop()


@ensureDeferred
async def test_aServerThatSpeaksAnotherProtocolIsNoServer(inside: Inside) -> None:
    class Speaking(Protocol):
        transport: Any

        def connectionMade(self) -> None:
            self.transport.write(b"220 mail.example ESMTP\r\n")

    mail = serve(Speaking)
    inside.stopping.append(mail.stopListening)
    peer = inside.peer("alice", JoinAddress("127.0.0.1", portOf(mail), PeerID(b"x" * 32)))
    peer.startService()
    await until(lambda: peer.describe()["servers"][0]["problem"])
    assert "TLS failed" in peer.describe()["servers"][0]["problem"]


@ensureDeferred
async def test_anUnknownPeerIsUnknown(inside: Inside) -> None:
    alice, _ = await inside.pair()
    alice.pins.trust("carol", PeerID(b"c" * 32))
    with pytest.raises(UnknownPeer):
        await alice.opener.openStream("carol", "echo")


@ensureDeferred
async def test_aServiceThatIsNotExposedIsRefused(inside: Inside) -> None:
    alice, _ = await inside.pair()
    stream = await opened(alice, "bob", "none")
    with pytest.raises(Refused, match="not exposed there"):
        await stream.opened


class Doorman(Protocol):
    """
    A service that says whom it takes its caller for.
    """

    transport: Any

    def connectionMade(self) -> None:
        self.transport.write(b"?")

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(showAddress(self.transport.getPeer()).encode() + b"\n" + data)


@ensureDeferred
@pytest.mark.parametrize("version", ProxyVersion)
async def test_aServiceIsToldWhoComes(inside: Inside, version: ProxyVersion) -> None:
    """
    As Twisted's own wrapper for the PROXY protocol understands it.
    """
    from twisted.internet import reactor

    alice, bob = await inside.pair()
    endpoint = serverFromString(reactor, "haproxy:tcp:0:interface=127.0.0.1")
    service = await endpoint.listen(Factory.forProtocol(Doorman))
    bob._exposures.services["door"] = inside.exposure(service, version)
    stream = await opened(alice, "bob", "door")
    user = Collector()
    stream.carry(user)
    user.transport.write(b"hello")
    await until(lambda: user.received.endswith(b"\nhello"))
    [link] = [link for link in bob.links._byNumber.values() if link.peerID == alice.identity.peerID]
    path: Any = link.session.path
    assert user.received.decode() == f"?{showAddress(path.transport.getPeer())}\nhello"
    stream.abortConnection()


@ensureDeferred
async def test_streamsOutliveTheServer(inside: Inside) -> None:
    alice, _ = await inside.pair()
    stream = await opened(alice, "bob", "echo")
    user = Collector()
    stream.carry(user)
    await inside.stopping.pop(0)()
    await until(lambda: not isConnected(alice))
    user.transport.write(b"still here")
    await until(lambda: user.received == b"still here")


@ensureDeferred
async def test_whoIsPinnedLaterMayCallAtOnce(inside: Inside) -> None:
    alice, bob = await inside.pair()
    carol = inside.peer("carol", alice.clients[0].join)
    carol.pins.trust("bob", bob.identity.peerID)
    carol.startService()
    await until(lambda: isConnected(carol))
    with pytest.raises(UnknownPeer):
        await carol.opener.openStream("bob", "echo")
    bob.pins.trust("carol", carol.identity.peerID)
    bob.pinsChanged()
    await sleep(0.05)
    await (await opened(carol, "bob", "echo")).opened


@ensureDeferred
async def test_whoIsPinnedUnderAnotherNameHasItInTheNextStream(inside: Inside) -> None:
    alice, bob = await inside.pair()
    old = await opened(alice, "bob", "echo")
    await old.opened
    alice.pins.trust("robert", bob.identity.peerID)
    alice.pinsChanged()
    new = await opened(alice, "robert", "echo")
    await new.opened
    assert [stream.getPeer().name for stream in (old, new)] == ["bob", "robert"]  # type: ignore[attr-defined]
    assert list(alice.describe()["links"]) == ["robert"]
    assert alice.describe()["links"]["robert"]["streams"] == 2


# Clients that give up while the link is down.


class Client(Protocol):
    """
    Who uses a forward.
    """

    transport: Any

    def __init__(self) -> None:
        self.received = 0

    def dataReceived(self, data: bytes) -> None:
        self.received += len(data)


async def forwarded(inside: Inside, data: bytes) -> tuple[PunchdPeer, Client]:
    """
    A client of Alice's forward to Bob, whose link is down when the client says C{data}.
    """
    from twisted.internet import reactor

    alice, _ = await inside.pair()
    factory = ForwardFactory(alice.opener, Target("bob", "echo"))
    endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    port = await endpoint.listen(factory)
    inside.stopping.append(port.stopListening)
    client = Client()
    await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", portOf(port)), client)
    client.transport.write(b"hello")
    await until(lambda: client.received == 5)
    # The server first: nobody gets another path.
    await inside.stopping.pop(0)()
    await until(lambda: not isConnected(alice))
    alice.links.to("bob", alice.pins.idOf("bob")).session.leavePath("the test wants it")
    assert alice.describe()["links"]["bob"]["streams"] == 1
    client.transport.write(data)
    await sleep(0.2)
    return alice, client


@pytest.mark.parametrize("data", [b"", b"more", bytes(20_000_000)], ids=["none", "some", "a lot"])
@ensureDeferred
async def test_whoBreaksItsConnectionFreesAllThoughTheLinkIsDown(
    inside: Inside, data: bytes
) -> None:
    alice, client = await forwarded(inside, data)
    client.transport.abortConnection()
    await until(lambda: alice.describe()["links"]["bob"]["streams"] == 0)


@ensureDeferred
async def test_throughTheRelayAServiceIsToldWhereTheServerSeesTheCaller(inside: Inside) -> None:
    from twisted.internet import reactor

    server = await inside.server(
        relayEndpoint=TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    )
    alice, bob = await inside.pair(server, strategies={})
    endpoint = serverFromString(reactor, "haproxy:tcp:0:interface=127.0.0.1")
    service = await endpoint.listen(Factory.forProtocol(Doorman))
    bob._exposures.services["door"] = inside.exposure(service, ProxyVersion.BINARY)
    stream = await opened(alice, "bob", "door")
    user = Collector()
    stream.carry(user)
    user.transport.write(b"hello")
    await until(lambda: user.received.endswith(b"\nhello"))
    welcome = alice.clients[0].welcome
    assert welcome is not None
    assert user.received.decode() == f"?{showAddress(welcome.observed)}\nhello"
    stream.abortConnection()


# A relay that has reached a limit.


@ensureDeferred
async def test_whenTheRelayWillNotHelpAnyMoreStreamsAreResetWithItsReason(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    from twisted.internet import reactor

    # It is not the waiting that this is about.
    monkeypatch.setattr(pace, "LIMITED_WAITS", (0.1, 0.1, 1.5))
    monkeypatch.setattr(pace, "LOST_WAITS", (0.1, 0.1, 1.5))
    server = await inside.server(
        relayEndpoint=TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1"),
        relayLimits=RelayLimits(bytes=Bound(2_000_000, None)),
    )
    alice, bob = await inside.pair(server, strategies={})
    stream = await opened(alice, "bob", "echo")
    user = Collector()
    stream.carry(user)
    user.transport.write(bytes(3_000_000))
    await until(lambda: user.lost is not None)
    assert user.lost is not None
    assert user.lost.check(ConnectionLost) is not None
    assert "no relayed one: " in user.lost.getErrorMessage()
    for peer, other in ((alice, "bob"), (bob, "alice")):
        await until(partial(noRelay, peer, other))
    with pytest.raises(NoPath, match="may have 2000000 bytes relayed") as caught:
        await opened(alice, "bob", "echo")
    assert caught.value.limit is not None
    assert caught.value.limit.seconds > 86_000


def noRelay(peer: PunchdPeer, other: str) -> bool:
    link = peer.describe()["links"][other]
    return link["path"] is None and "may have 2000000 bytes relayed" in (link["reason"] or "")


# A server that lies.


class Forged(BoundedAMP):
    """
    A server with the right key, that sends its peers wherever it likes.
    """

    def __init__(self) -> None:
        super().__init__(self, lambda violation: None)
        self.isReady = False

    @Hello.responder
    def hello(self, **arguments: Any) -> dict[str, Any]:
        self.isReady = True
        # A public address: as if we stood in the Internet.
        return {"version": 1, "observed": makeAddress("198.51.100.1", 4000), "assists": []}

    @Ping.responder
    def ping(self) -> dict[str, Any]:
        return {}


@define
class Lying:
    """
    A peer, and the forged server that it believes.
    """

    peer: PunchdPeer
    servers: list[Forged]
    watcher: Watcher

    async def introduce(
        self, caller: PeerID, reflexive: Address, hosts: tuple[Address, ...]
    ) -> Any:
        return await self.servers[-1].callRemote(
            Introduction,
            session=b"%016d" % len(self.watcher.steps),
            caller=caller,
            own=makeAddress("198.51.100.1", 4000),
            reflexive=reflexive,
            **toldArguments(Offer(hosts=hosts, strategies=STRATEGIES)),
            **toldArguments(Offer(strategies=STRATEGIES), OWN),
        )


BOB = PeerID(b"b" * 32)
STRATEGIES = (("lan", 1), ("simultaneous", 1))


@pytest_twisted.async_yield_fixture
async def lying(inside: Inside) -> AsyncIterator[Lying]:
    from twisted.internet import reactor
    from twisted.protocols.tls import TLSMemoryBIOFactory

    identity = Identity.inFolder(StateFolder.at(str(inside.folder / "forged")))
    creator = ConnectionCreator(
        makeContext(selfSigned(identity), MASTER_ALPN), lambda: Verdict(anybody)
    )
    servers: list[Forged] = []

    def build() -> Forged:
        servers.append(Forged())
        return servers[-1]

    factory: Any = TLSMemoryBIOFactory(creator, False, Factory.forProtocol(build))
    factory.noisy = False
    port: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")
    inside.stopping.append(port.stopListening)
    watcher = Watcher()
    peer = inside.peer(
        "alice", JoinAddress("127.0.0.1", portOf(port), identity.peerID), observer=watcher
    )
    peer.pins.trust("bob", BOB)
    peer.startService()
    await until(lambda: isConnected(peer))
    yield Lying(peer, servers, watcher)
    await inside.stop()


class Trap(Protocol):
    """
    Somebody who is not to be dialled.
    """

    visitors = 0

    def connectionMade(self) -> None:
        type(self).visitors += 1


@ensureDeferred
async def test_aForgedServerCannotSendAPeerToThisHost(inside: Inside, lying: Lying) -> None:
    trap = serve(Trap)
    inside.stopping.append(trap.stopListening)
    target = makeAddress("127.0.0.1", portOf(trap))
    with pytest.raises(Refused, match="no address for this peer"):
        await lying.introduce(BOB, target, (target,))
    await sleep(0.1)
    assert Trap.visitors == 0


@pytest.mark.parametrize("host", ["192.168.1.1", "10.0.0.1", "224.0.0.1", "169.254.169.254"])
@ensureDeferred
async def test_aForgedServerCannotSendAPeerIntoPrivateNetworks(lying: Lying, host: str) -> None:
    target = makeAddress(host, 80)
    with pytest.raises(Refused, match="no address for this peer"):
        await lying.introduce(BOB, target, (target,))


@ensureDeferred
async def test_aForgedServerCannotIntroduceAStranger(lying: Lying) -> None:
    with pytest.raises(Refused, match="does not trust"):
        await lying.introduce(PeerID(b"m" * 32), makeAddress("203.0.113.9", 80), ())


@ensureDeferred
async def test_aForgedServerCannotMakeAPeerTryWithoutBound(lying: Lying) -> None:
    stranger = PeerID(b"m" * 32)
    said: list[str] = []
    for _ in range(300):
        try:
            await lying.introduce(stranger, makeAddress("203.0.113.9", 80), ())
        except (Refused, Unreachable) as refusal:
            said.append(str(refusal))
    assert len(said) == 300
    assert "too many introductions at a time" in said
    assert isConnected(lying.peer)
