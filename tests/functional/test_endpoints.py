"""
Endpoints over peers in this process, and over the same peers by their control sockets, in all four
combinations.
"""

from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import pytest
import pytest_twisted
from attrs import define, field
from pytest_twisted import ensureDeferred
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IHalfCloseableProtocol,
    IListeningPort,
    IPushProducer,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
    ITransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from punchd import parsers
from punchd.endpoints import PunchdClientEndpoint, PunchdServerEndpoint
from punchd.errors import ConfigurationError, Refused, UnknownPeer, Unreachable
from punchd.identity.folder import StateFolder
from punchd.identity.keys import Identity
from punchd.identity.pins import Pins
from punchd.interfaces import IStreamExposer, IStreamOpener
from punchd.peer.running import RunningPeer
from punchd.peer.service import PunchdPeer
from punchd.values.joining import JoinAddress
from punchd.values.peers import PeerAddress
from tests.functional.processes import sleep
from tests.functional.test_inside import Inside, isConnected, until

MEGABYTE = 1 << 20


class Talker(Protocol):
    """
    Remembers what happened to it.
    """

    transport: Any

    def __init__(self) -> None:
        self.received = bytearray()
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


@implementer(IHalfCloseableProtocol)
class HalfTalker(Talker):
    """
    Remembers the end of input, too.
    """

    inputEnded = False

    def readConnectionLost(self) -> None:
        self.inputEnded = True

    def writeConnectionLost(self) -> None:
        pass


class Talkers(Factory):
    """
    Makes them, and knows for whom.
    """

    noisy = False

    def __init__(self, kind: Any = Talker) -> None:
        self.kind = kind
        self.made: list[Any] = []
        self.addresses: list[IAddress | None] = []
        self.running = 0

    def doStart(self) -> None:
        self.running += 1

    def doStop(self) -> None:
        self.running -= 1

    def buildProtocol(self, addr: IAddress | None) -> Any:
        self.addresses.append(addr)
        made = None if self.kind is None else self.kind()
        if made is not None:
            self.made.append(made)
        return made


@define
class Meeting:
    """
    Alice, who connects, and Bob, who listens.

    @ivar opener: Alice's, as her program has it.
    @ivar exposer: Bob's, as his program has it.
    """

    inside: Inside
    alice: PunchdPeer
    bob: PunchdPeer
    opener: Any
    exposer: Any
    ports: list[IListeningPort] = field(factory=list)

    def client(self, service: str = "talk") -> PunchdClientEndpoint:
        return PunchdClientEndpoint(self.opener, "bob", service)

    async def listen(self, factory: Talkers, service: str = "talk") -> IListeningPort:
        port = await PunchdServerEndpoint(self.exposer, service).listen(factory)
        self.ports.append(port)
        return port

    async def connected(self, kind: Any = Talker, serverKind: Any = None) -> tuple[Any, Any]:
        """
        Alice's protocol and Bob's.
        """
        served = Talkers(serverKind or kind)
        await self.listen(served)
        mine: Any = await self.client().connect(Talkers(kind))
        await until(lambda: served.made)
        return mine, served.made[0]


WAYS = ["inside", "running"]


def by(way: str, peer: PunchdPeer) -> Any:
    from twisted.internet import reactor

    return peer if way == "inside" else RunningPeer(reactor, peer.folder)


@pytest_twisted.async_yield_fixture(
    params=[(one, two) for one in WAYS for two in WAYS], ids="-".join
)
async def meeting(request: Any, tmp_path: Path) -> AsyncIterator[Meeting]:
    inside = Inside(tmp_path)
    alice, bob = await inside.pair()
    client, server = request.param
    here = Meeting(inside, alice, bob, by(client, alice), by(server, bob))
    yield here
    for port in here.ports:
        await maybeDeferred(port.stopListening)
    await inside.stop()


@ensureDeferred
async def test_bothEndsKnowEachOtherByTheirPins(meeting: Meeting) -> None:
    verifyObject(IStreamOpener, meeting.opener)
    verifyObject(IStreamClientEndpoint, meeting.client())
    verifyObject(IStreamServerEndpoint, PunchdServerEndpoint(meeting.exposer, "talk"))
    served = Talkers()
    port = await meeting.listen(served)
    verifyObject(IStreamExposer, meeting.exposer)
    verifyObject(IListeningPort, port)
    wanted = Talkers()
    mine: Any = await meeting.client().connect(wanted)
    await until(lambda: served.made)
    alice = PeerAddress("alice", meeting.alice.identity.peerID)
    bob = PeerAddress("bob", meeting.bob.identity.peerID)
    assert wanted.addresses == [bob]
    assert served.addresses == [alice]
    verifyObject(IAddress, served.addresses[0])
    theirs = served.made[0]
    for protocol, peer, host in ((mine, bob, alice), (theirs, alice, bob)):
        for interface in (ITransport, IConsumer, IPushProducer):
            verifyObject(interface, protocol.transport)
        assert (protocol.transport.getPeer(), protocol.transport.getHost()) == (peer, host)
    assert port.getHost() == bob


@ensureDeferred
async def test_aLotGoesBothWays(meeting: Meeting) -> None:
    mine, theirs = await meeting.connected()
    sent = [Random(number).randbytes(4 * MEGABYTE) for number in range(2)]
    for protocol, data in zip((mine, theirs), sent, strict=True):
        protocol.transport.write(data[:MEGABYTE])
        protocol.transport.writeSequence([data[MEGABYTE : MEGABYTE + 1], data[MEGABYTE + 1 :]])
    await until(lambda: len(mine.received) + len(theirs.received) == 8 * MEGABYTE)
    for protocol, data in zip((theirs, mine), sent, strict=True):
        assert sha256(protocol.received).digest() == sha256(data).digest()


@ensureDeferred
async def test_whoLosesTheConnectionEndsItInOrderForBoth(meeting: Meeting) -> None:
    mine, theirs = await meeting.connected()
    mine.transport.write(b"the last word")
    mine.transport.loseConnection()
    await until(lambda: mine.lost and theirs.lost)
    assert theirs.received == b"the last word"
    assert mine.lost.check(ConnectionDone)
    assert theirs.lost.check(ConnectionDone)


@ensureDeferred
async def test_whoAbortsBreaksItForBoth(meeting: Meeting) -> None:
    mine, theirs = await meeting.connected()
    theirs.transport.abortConnection()
    await until(lambda: mine.lost and theirs.lost)
    assert theirs.lost.check(ConnectionAborted)
    assert mine.lost.check(ConnectionLost)


@ensureDeferred
async def test_theCallersAbortIsNoOrderlyEnd(meeting: Meeting) -> None:
    mine, theirs = await meeting.connected(HalfTalker)
    mine.transport.abortConnection()
    await until(lambda: mine.lost and theirs.lost)
    assert mine.lost.check(ConnectionAborted)
    assert theirs.lost.check(ConnectionLost)
    assert not theirs.inputEnded


@ensureDeferred
async def test_oneDirectionMayEndBeforeTheOther(meeting: Meeting) -> None:
    mine, theirs = await meeting.connected(HalfTalker)
    mine.transport.write(b"question")
    mine.transport.loseWriteConnection()
    await until(lambda: theirs.inputEnded)
    assert theirs.received == b"question"
    theirs.transport.write(b"answer")
    theirs.transport.loseConnection()
    await until(lambda: mine.lost and theirs.lost)
    assert mine.received == b"answer"
    assert mine.lost.check(ConnectionDone)
    assert theirs.lost.check(ConnectionDone)


@implementer(IPushProducer)
class Pouring:
    """
    Writes as much as the transport takes, up to a bound.
    """

    def __init__(self, transport: Any, most: int) -> None:
        self.transport = transport
        self.left = most
        self.wasPaused = False
        self.isPaused = False

    def resumeProducing(self) -> None:
        self.isPaused = False
        while self.left and not self.isPaused:
            self.left -= 1
            self.transport.write(bytes(MEGABYTE >> 4))
        if not self.left:
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def pauseProducing(self) -> None:
        self.isPaused = self.wasPaused = True

    def stopProducing(self) -> None:
        self.left = 0


@ensureDeferred
async def test_whoDoesNotReadHoldsBackWhoWrites(meeting: Meeting) -> None:
    mine, theirs = await meeting.connected()
    theirs.transport.pauseProducing()
    pouring = Pouring(mine.transport, 512)
    mine.transport.registerProducer(pouring, True)
    pouring.resumeProducing()
    await until(lambda: pouring.isPaused)
    assert pouring.left > 0
    assert theirs.received == b""
    theirs.transport.resumeProducing()
    await until(lambda: theirs.lost)
    assert len(theirs.received) == 32 * MEGABYTE
    assert theirs.lost.check(ConnectionDone)


@ensureDeferred
async def test_aPullProducerIsPulled(meeting: Meeting) -> None:
    mine, theirs = await meeting.connected()

    class Pulled:
        left = 50

        def resumeProducing(self) -> None:
            self.left -= 1
            mine.transport.write(bytes(1000))
            if not self.left:
                mine.transport.unregisterProducer()

        def stopProducing(self) -> None:
            pass

    mine.transport.registerProducer(Pulled(), False)
    await until(lambda: len(theirs.received) == 50_000)


@ensureDeferred
async def test_linesAreReceived(meeting: Meeting) -> None:
    """
    This receiver asks the transport whether it is disconnecting.
    """

    class Lines(LineReceiver):
        def __init__(self) -> None:
            self.lines: list[bytes] = []

        def lineReceived(self, line: bytes) -> None:
            self.lines.append(line)
            assert self.transport is not None
            if line == b"stop":
                self.transport.loseConnection()

    mine, theirs = await meeting.connected(Talker, Lines)
    mine.transport.write(b"one\r\ntwo\r\nstop\r\nthree\r\n")
    await until(lambda: mine.lost)
    assert theirs.lines == [b"one", b"two", b"stop"]


@ensureDeferred
async def test_manyAtOnceGetEachItsOwn(meeting: Meeting) -> None:
    class Doubling(Talker):
        def dataReceived(self, data: bytes) -> None:
            self.transport.write(data + data)

    await meeting.listen(Talkers(Doubling))
    waiting = [meeting.client().connect(Talkers()) for _ in range(10)]
    talkers: list[Any] = [await one for one in waiting]
    for number, talker in enumerate(talkers):
        talker.transport.write(b"%d" % number)
    await until(lambda: all(talker.received for talker in talkers))
    assert [bytes(talker.received) for talker in talkers] == [b"%d" % n * 2 for n in range(10)]


@ensureDeferred
async def test_aServiceIsThereOnlyWhileItsPortListens(meeting: Meeting) -> None:
    with pytest.raises(Refused, match="not exposed there"):
        await meeting.client().connect(Talkers())
    served = Talkers()
    port = await meeting.listen(served)
    assert "talk" in meeting.bob.describe()["exposes"]
    mine: Any = await meeting.client().connect(Talkers())
    await until(lambda: served.made)
    assert served.running == 1
    await maybeDeferred(port.stopListening)
    await until(lambda: "talk" not in meeting.bob.describe()["exposes"])
    assert served.running == 0
    with pytest.raises(Refused, match="not exposed there"):
        await meeting.client().connect(Talkers())
    # What runs goes on.
    mine.transport.write(b"still here")
    await until(lambda: served.made[0].received == b"still here")


@pytest.mark.parametrize("service", ["echo", "talk"])
@ensureDeferred
async def test_aNameThatIsTakenIsRefused(meeting: Meeting, service: str) -> None:
    await meeting.listen(Talkers())
    other = Talkers()
    with pytest.raises(Refused, match="exposed already"):
        await meeting.listen(other, service)
    assert other.running == 0
    mine: Any = await meeting.client("echo").connect(Talkers())
    mine.transport.write(b"the old one")
    await until(lambda: mine.received == b"the old one")


@ensureDeferred
async def test_whoIsNotKnownIsUnknown(meeting: Meeting) -> None:
    wanted = Talkers()
    with pytest.raises(UnknownPeer, match="punchd trust carol"):
        await PunchdClientEndpoint(meeting.opener, "carol", "talk").connect(wanted)
    assert (wanted.made, wanted.running) == ([], 0)


@ensureDeferred
async def test_aClientFactoryWithoutAProtocolIsRefused(meeting: Meeting) -> None:
    await meeting.listen(Talkers())
    wanted = Talkers(None)
    with pytest.raises(Refused, match="has no protocol"):
        await meeting.client().connect(wanted)
    await until(lambda: wanted.running == 0)


@ensureDeferred
async def test_aServerFactoryWithoutAProtocolTakesNobody(meeting: Meeting) -> None:
    served = Talkers(None)
    await meeting.listen(served)
    connecting: Deferred[Any] = meeting.client().connect(Talkers())
    if isinstance(meeting.exposer, PunchdPeer):
        with pytest.raises(Refused, match="takes nobody there now"):
            await connecting
    else:
        # The stream was agreed on before the program had it.
        talker = await connecting
        await until(lambda: talker.lost)
        assert talker.lost.check(ConnectionLost)
    assert len(served.addresses) == 1


@ensureDeferred
async def test_connectingCanBeCancelled(meeting: Meeting) -> None:
    await meeting.listen(Talkers())
    wanted = Talkers()
    connecting = meeting.client().connect(wanted)
    ended: list[Failure] = []
    connecting.addErrback(ended.append)
    connecting.cancel()
    await until(lambda: ended)
    assert ended[0].check(CancelledError)
    assert wanted.made == []


@ensureDeferred
async def test_theFactoryOfAClientIsStoppedWithItsConnection(meeting: Meeting) -> None:
    await meeting.listen(Talkers())
    wanted = Talkers()
    mine: Any = await meeting.client().connect(wanted)
    assert wanted.running == 1
    mine.transport.loseConnection()
    await until(lambda: wanted.running == 0)


@ensureDeferred
async def test_whoIsNotAllowedIsRefused(tmp_path: Path) -> None:
    inside = Inside(tmp_path)
    alice, bob = await inside.pair(allow=["alice=echo", "bob=echo"])
    for way in WAYS:
        served = Talkers()
        port = await PunchdServerEndpoint(by(way, bob), "talk").listen(served)
        with pytest.raises(Refused, match="not allowed to this peer"):
            await PunchdClientEndpoint(alice, "bob", "talk").connect(Talkers())
        assert served.addresses == []
        await maybeDeferred(port.stopListening)
        await until(lambda: "talk" not in bob.describe()["exposes"])
    await inside.stop()


# Without a peer, and when it goes and comes.


@ensureDeferred
async def test_withoutARunningPeerItIsSaid(tmp_path: Path) -> None:
    from twisted.internet import reactor

    nobody = RunningPeer(reactor, StateFolder.at(str(tmp_path)))
    for doing in (
        lambda: PunchdClientEndpoint(nobody, "bob", "talk").connect(Talkers()),
        lambda: PunchdServerEndpoint(nobody, "talk").listen(Talkers()),
    ):
        waiting: Deferred[Any] = doing()
        with pytest.raises(Unreachable, match=r"answers .* \(No such file or directory\)"):
            await waiting


@ensureDeferred
async def test_aFolderWhosePathIsTooLongIsAMistake(tmp_path: Path) -> None:
    from twisted.internet import reactor

    nobody = RunningPeer(reactor, StateFolder(tmp_path / ("x" * 108)))
    with pytest.raises(ConfigurationError, match="too long for a socket"):
        await PunchdClientEndpoint(nobody, "bob", "talk").connect(Talkers())


@ensureDeferred
async def test_aServiceIsExposedAgainWhenThePeerIsBack(tmp_path: Path) -> None:
    from twisted.internet import reactor

    inside = Inside(tmp_path)
    alice, bob = await inside.pair()
    served = Talkers()
    running = RunningPeer(reactor, bob.folder)
    port = await PunchdServerEndpoint(running, "talk").listen(served)
    inside.stopping.remove(bob.stopService)
    await bob.stopService()
    again = inside.peer("bob", alice.clients[0].join)
    again.startService()
    await until(lambda: isConnected(again) and "talk" in again.describe()["exposes"])
    await PunchdClientEndpoint(alice, "bob", "talk").connect(Talkers())
    await until(lambda: served.made)
    await maybeDeferred(port.stopListening)
    await inside.stop()


# By strings, with a peer of this process.


@define
class Own:
    """
    Alice and Bob, each with no more than a state folder.
    """

    inside: Inside
    join: str
    ports: list[Any] = field(factory=list)

    def arguments(self, name: str) -> str:
        return f"server={self.join}:name={name}:state={self.inside.folder / name}"

    def client(self, service: str = "talk") -> IStreamClientEndpoint:
        from twisted.internet import reactor

        text = f"punchd:bob/{service}:{self.arguments('alice')}"
        endpoint: IStreamClientEndpoint = clientFromString(reactor, text)
        return endpoint

    async def listen(self, factory: Talkers, service: str = "talk") -> Any:
        from twisted.internet import reactor

        endpoint = serverFromString(reactor, f"punchd:{service}:{self.arguments('bob')}")
        self.ports.append(await endpoint.listen(factory))
        return self.ports[-1]

    def isRunning(self, name: str) -> bool:
        return (self.inside.folder / name / "control").exists()


@pytest_twisted.async_yield_fixture
async def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Own]:
    monkeypatch.setattr(parsers, "LINGER", 0.3)
    inside = Inside(tmp_path)
    server = await inside.server()
    folders = {name: StateFolder.at(str(tmp_path / name)) for name in ("alice", "bob")}
    for name, other in (("alice", "bob"), ("bob", "alice")):
        pins = Pins.inFolder(folders[name])
        pins.trust(other, Identity.inFolder(folders[other]).peerID)
    here = Own(inside, str(server.joinAddress).replace(":", "\\:"))
    yield here
    for port in here.ports:
        await maybeDeferred(port.stopListening)
    await until(lambda: not here.isRunning("alice") and not here.isRunning("bob"))
    await inside.stop()


@ensureDeferred
async def test_aProcessMayBeAPeerItself(own: Own) -> None:
    served = Talkers()
    port = await own.listen(served)
    assert port.getHost().name == "bob"
    mine: Any = await own.client().connect(Talkers())
    mine.transport.write(b"hello")
    await until(lambda: served.made and served.made[0].received == b"hello")
    assert str(served.addresses[0]).startswith("alice (")
    mine.transport.loseConnection()
    await until(lambda: mine.lost)


@ensureDeferred
async def test_itIsOnePeerForAllStringsAndAsLongAsAnyIsUsed(own: Own) -> None:
    assert not own.isRunning("bob")
    first, second = Talkers(), Talkers()
    one, two = await own.listen(first), await own.listen(second, "other")
    mine: Any = await own.client("other").connect(Talkers())
    await until(lambda: second.made)
    for port in (one, two):
        await maybeDeferred(port.stopListening)
    await sleep(0.5)
    # There is still a connection.
    assert own.isRunning("bob")
    mine.transport.write(b"hello")
    await until(lambda: second.made[0].received == b"hello")
    mine.transport.loseConnection()
    await until(lambda: not own.isRunning("bob"))


@ensureDeferred
async def test_itCanBeStartedAgain(own: Own) -> None:
    for _ in range(2):
        served = Talkers()
        port = await own.listen(served)
        mine: Any = await own.client().connect(Talkers())
        await until(lambda served=served: served.made)  # type: ignore[misc]
        mine.transport.loseConnection()
        await maybeDeferred(port.stopListening)
        await until(lambda: not own.isRunning("alice") and not own.isRunning("bob"))


@ensureDeferred
async def test_twoPeersOfOneFolderAreAMistake(own: Own) -> None:
    from twisted.internet import reactor

    await own.listen(Talkers())
    text = own.arguments("bob").replace("name=bob", "name=carol")
    with pytest.raises(ConfigurationError, match="under another name"):
        serverFromString(reactor, f"punchd:more:{text}")


@ensureDeferred
async def test_aFolderWithARunningPeerIsAMistake(own: Own) -> None:
    bob = own.inside.peer("bob", JoinAddress.parse(own.join.replace("\\", "")))
    bob.startService()
    with pytest.raises(ConfigurationError, match="another punchd-peer is running"):
        await own.listen(Talkers())
    await own.inside.stopping.pop()()
