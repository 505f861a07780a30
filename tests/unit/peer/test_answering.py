"""
Tests for L{punchd.peer.answering}: whom a peer lets itself be introduced to, and what it serves.
"""

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from punchd.errors import Refused
from punchd.peer.access import AllowList
from punchd.peer.answering import Answering, Exposures
from punchd.peer.conversation import Call
from punchd.peer.links import Links
from punchd.peer.punching import GRACE
from punchd.values.addresses import Address, makeAddress
from punchd.values.parties import Offer, Party
from punchd.values.peers import PeerID
from tests.unit.link.pairs import ALICE, BOB, Sides, User
from tests.unit.net.memory import HERE, MemoryTransport, Pair
from tests.unit.peer.clients import PUBLIC, FakeClient, Watcher, makePins, makePunches
from tests.unit.peer.punches import Scripted, dialling

STRANGER = PeerID(b"m" * 32)


class Answerer:
    """
    A peer that is called; Bob is pinned.
    """

    def __init__(self, folder: Path, *strategies: Scripted, rules: tuple[str, ...] = ()) -> None:
        self.clock = Clock()
        self.watcher = Watcher()
        strategies = strategies or (dialling("dial", listening=True, retries=5),)
        installed = {one.name: one for one in strategies}
        self.punches = makePunches(self.clock, installed, self.watcher, folder)
        self.client = FakeClient(self.clock)
        pins = makePins(folder, bob=BOB.peerID)
        policy = AllowList.parse(pins, list(rules))
        self.links = Links()
        self.answering = Answering(
            self.client.asClient, pins, policy, self.punches, self.links, Exposures({}, policy)
        )

    def call(
        self, caller: PeerID = BOB.peerID, reflexive: Address = PUBLIC, session: bytes = b"s" * 16
    ) -> None:
        offer = Offer(strategies=self.punches.offer.strategies)
        self.answering.called(Call(session, caller, Party(HERE, offer), Party(reflexive, offer)))

    @property
    def isQuiet(self) -> bool:
        """
        Nothing was sent anywhere, and nothing will be.
        """
        port = self.client.port
        return not port.dials and port.listening == 0 and not self.clock.getDelayedCalls()


@pytest.fixture
def answerer(tmp_path: Path) -> Answerer:
    return Answerer(tmp_path)


def test_aPinnedPeerIsDialled(answerer: Answerer) -> None:
    answerer.call()
    assert [dial.remote for dial in answerer.client.port.dials] == [PUBLIC]
    answerer.punches.stop()
    assert answerer.client.port.listening == 0


def test_nothingIsSentToAPeerThatIsNotPinned(answerer: Answerer) -> None:
    with pytest.raises(Refused, match="does not trust"):
        answerer.call(STRANGER)
    assert answerer.isQuiet


def test_nothingIsSentToAPeerThatIsNotAllowed(tmp_path: Path) -> None:
    answerer = Answerer(tmp_path, rules=("carol",))
    with pytest.raises(Refused, match="does not trust"):
        answerer.call()
    assert answerer.isQuiet


FORBIDDEN = [
    "127.0.0.1",
    "127.1.2.3",
    "192.168.1.1",
    "10.0.0.1",
    "172.16.0.1",
    "100.64.0.1",
    "169.254.169.254",
    "224.0.0.251",
    "255.255.255.255",
    "0.0.0.0",
    "::1",
    "fe80::1",
    "fd00::1",
    "ff02::1",
]


@pytest.mark.parametrize("host", FORBIDDEN)
def test_nothingIsSentToAnAddressThatIsNotForUs(answerer: Answerer, host: str) -> None:
    with pytest.raises(Refused, match="no address for this peer to dial"):
        answerer.call(reflexive=makeAddress(host, 4000))
    assert answerer.isQuiet


def test_nothingIsSentToPortZero(answerer: Answerer) -> None:
    with pytest.raises(Refused):
        answerer.call(reflexive=makeAddress("203.0.113.9", 0))
    assert answerer.isQuiet


def test_aSessionThatIsUnderWayIsNotBegunAgain(answerer: Answerer) -> None:
    answerer.call()
    with pytest.raises(Refused, match="under way"):
        answerer.call()
    assert len(answerer.client.port.dials) == 1
    answerer.punches.stop()


def test_whoIsBeingStoppedIsNotIntroduced(answerer: Answerer) -> None:
    answerer.punches.stop()
    with pytest.raises(Refused, match="being stopped"):
        answerer.call()
    assert answerer.isQuiet
    assert answerer.client.usedToward[BOB.peerID] == 0


def test_anIntroductionUsesThePort(answerer: Answerer) -> None:
    answerer.call()
    assert answerer.client.usedToward[BOB.peerID] == 1
    answerer.punches.stop()


def test_afterAnIntroductionThatFailedThePortIsFree(answerer: Answerer) -> None:
    answerer.call()
    answerer.clock.advance(4)
    answerer.clock.advance(GRACE)
    assert answerer.client.usedToward[BOB.peerID] == 0


def test_whyThereIsNoPathIsKnown(answerer: Answerer) -> None:
    answerer.call()
    answerer.clock.advance(4)
    answerer.clock.advance(GRACE)
    facts = answerer.links.to("bob", BOB.peerID).toJSON()
    assert facts["path"] is None
    assert facts["reason"].startswith("no direct path to bob: dial")


def test_messagesReachTheirIntroduction(tmp_path: Path) -> None:
    heard: list[Any] = []

    def script(attempt: Any) -> Deferred[Any]:
        attempt.hear().addCallback(heard.append)
        return Deferred()

    answerer = Answerer(tmp_path, Scripted("one", script))
    answerer.call()
    answerer.answering.told(b"s" * 16, "one", b"hello", PUBLIC)
    answerer.answering.told(b"o" * 16, "one", b"for another", PUBLIC)
    assert heard == [(b"hello", PUBLIC)]
    answerer.punches.stop()


# Serving.


@implementer(IStreamClientEndpoint)
class Local:
    """
    A local service: connects, or not, when the test says.
    """

    def __init__(self) -> None:
        self.factories: list[IProtocolFactory] = []
        self.connecting: list[Deferred[Any]] = []
        self.cancelled = 0

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        self.factories.append(protocolFactory)
        self.connecting.append(Deferred(self._cancel))
        return self.connecting[-1]

    def _cancel(self, connecting: object) -> None:
        self.cancelled += 1

    def answer(self, clock: Clock) -> tuple[User, Pair]:
        user = User()
        protocol: Any = self.factories[0].buildProtocol(HERE)
        pair = Pair(clock, protocol, user)
        self.connecting[0].callback(protocol)
        return user, pair


class Served:
    """
    A caller's stream to a callee that exposes one service, C{web}; Alice, who calls, is pinned.
    """

    def __init__(self, folder: Path, service: str, rules: tuple[str, ...] = ()) -> None:
        self.local = Local()
        pins = makePins(folder, alice=ALICE.peerID)
        exposures = Exposures({"web": self.local}, AllowList.parse(pins, list(rules)))
        self.sides = Sides()
        self.sides.callee.stream.onAsked = lambda stream, service: exposures.serve(
            stream, ALICE.peerID
        )
        self.user = User()
        self.errors: list[object] = []
        stream = self.sides.caller.stream
        stream.opened.addErrback(lambda failure: self.errors.append(failure.value))
        stream.elect(service)
        stream.carry(self.user)
        self.sides.flush()

    @property
    def refusal(self) -> str:
        (error,) = self.errors
        assert isinstance(error, Refused)
        return str(error)


def test_anExposedServiceIsConnected(tmp_path: Path) -> None:
    served = Served(tmp_path, "web")
    user, pair = served.local.answer(served.sides.clock)
    served.sides.caller.stream.write(b"question")
    served.sides.flush()
    pair.flush()
    assert user.received == b"question"
    served.sides.end()


def test_whatTheServiceSaysReachesTheCaller(tmp_path: Path) -> None:
    served = Served(tmp_path, "web")
    user, pair = served.local.answer(served.sides.clock)
    user.transport.write(b"answer")
    pair.flush()
    served.sides.flush()
    assert served.user.received == b"answer"
    served.sides.end()


def test_aServiceThatIsNotExposedIsRefused(tmp_path: Path) -> None:
    assert Served(tmp_path, "ftp").refusal == "the service 'ftp' is not exposed here"


def test_aServiceThatIsNotAllowedIsRefused(tmp_path: Path) -> None:
    served = Served(tmp_path, "web", ("alice=other",))
    assert served.refusal == "the service 'web' is not allowed to this peer"
    assert served.local.connecting == []


def test_aServiceThatDoesNotAnswerIsRefused(tmp_path: Path) -> None:
    served = Served(tmp_path, "web")
    served.local.connecting[0].errback(Failure(ConnectionRefusedError()))
    served.sides.flush()
    assert "does not answer there" in served.refusal


def test_anEmptyNameOnlyMeasures(tmp_path: Path) -> None:
    served = Served(tmp_path, "")
    assert served.sides.caller.stream.opened.called
    assert served.errors == []
    assert served.local.connecting == []
    served.sides.end()


def test_aCallerThatGoesAwayEndsTheConnecting(tmp_path: Path) -> None:
    served = Served(tmp_path, "web")
    served.sides.end()
    assert served.local.cancelled == 1


def test_aServiceThatConnectsTooLateIsDisconnected(tmp_path: Path) -> None:
    served = Served(tmp_path, "web")
    protocol: Any = served.local.factories[0].buildProtocol(HERE)
    transport = MemoryTransport(protocol, False)
    protocol.makeConnection(transport)
    # An endpoint may succeed when it is told to stop.
    served.local._cancel = lambda connecting: None  # type: ignore[method-assign]
    served.local.connecting[0]._canceller = lambda connecting: connecting.callback(protocol)
    served.sides.end()
    assert transport.isAborted
