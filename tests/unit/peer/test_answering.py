"""
Tests for L{punchd.peer.answering}: whom a peer lets itself be introduced to.
"""

from pathlib import Path
from random import Random
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from punchd.errors import Limited, Refused
from punchd.link.punched import PunchedConnection
from punchd.peer.access import AllowList
from punchd.peer.answering import Answering
from punchd.peer.conversation import Call
from punchd.peer.dialling import Dialling
from punchd.peer.exposing import Exposures
from punchd.peer.links import Links
from punchd.peer.punching import GRACE
from punchd.peer.usage import LINGERING
from punchd.values.addresses import Address, makeAddress
from punchd.values.outcomes import Way
from punchd.values.parties import Offer, Party
from punchd.values.peers import PeerAddress, PeerID
from punchd.wire.frames import Join, Kind, unpackEnd
from punchd.wire.preamble import Side
from tests.unit.link.pairs import ALICE, BOB, makeTicket
from tests.unit.net.memory import HERE, Pair
from tests.unit.peer.clients import PUBLIC, FakeClient, Watcher, makePins, makePunches
from tests.unit.peer.punches import Scripted, dialling

STRANGER = PeerID(b"m" * 32)


class Heard:
    """
    Who uses a path, and hears what ends something.
    """

    def __init__(self) -> None:
        self.frames: list[tuple[Kind, tuple[bool, str]]] = []

    def frameReceived(self, path: object, kind: Kind, number: int, payload: bytes) -> None:
        self.frames.append((kind, unpackEnd(payload)))

    def batchReceived(self, path: object) -> None:
        """
        That was all for now.
        """

    def pathLost(self, path: object, why: str) -> None:
        """
        It is gone.
        """


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
        self.pins = makePins(folder, bob=BOB.peerID)
        policy = AllowList.parse(self.pins, list(rules))
        self.links = Links(
            self.clock,
            Random(1),
            lambda length: b"l" * length,
            PeerAddress("alice", ALICE.peerID),
            Dialling([], self.punches),
            Exposures({}, policy),
        )
        self.answering = Answering(
            self.client.asClient, self.pins, policy, self.punches, self.links
        )

    def call(
        self,
        caller: PeerID = BOB.peerID,
        reflexive: Address = PUBLIC,
        session: bytes = b"s" * 16,
        limit: Limited | None = None,
    ) -> None:
        offer = Offer(strategies=self.punches.offer.strategies)
        own, other = Party(HERE, offer), Party(reflexive, offer)
        self.answering.called(Call(session, caller, own, other, limit=limit))

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
    assert answerer.client.usage.isFree(BOB.peerID)


def test_anIntroductionUsesThePort(answerer: Answerer) -> None:
    answerer.call()
    assert answerer.client.usage.isOngoing(BOB.peerID)
    answerer.punches.stop()


def test_afterAnIntroductionThatFailedThePortIsNotFreeAtOnce(answerer: Answerer) -> None:
    answerer.call()
    answerer.clock.advance(4)
    answerer.clock.advance(GRACE)
    usage = answerer.client.usage
    assert (usage.isOngoing(BOB.peerID), usage.isFree(BOB.peerID)) == (False, False)
    answerer.clock.advance(LINGERING)
    assert usage.isFree(BOB.peerID)


def test_whyThereIsNoPathIsKnown(answerer: Answerer) -> None:
    answerer.call()
    answerer.clock.advance(4)
    answerer.clock.advance(GRACE)
    facts = answerer.links.toJSON()["bob"]
    assert facts["path"] is None
    assert facts["reason"].startswith("no direct path to bob: dial")


def test_whoIsNotTrustedAnyMoreWhenItIsOverIsForgotten(answerer: Answerer) -> None:
    answerer.call()
    answerer.pins.trust("bob", PeerID(b"o" * 32))
    answerer.clock.advance(4)
    answerer.clock.advance(GRACE)
    assert answerer.links.toJSON() == {}


def test_aPathOfWhoIsNotTrustedAnyMoreIsDeclined(answerer: Answerer) -> None:
    answerer.call()
    answerer.pins.trust("bob", PeerID(b"o" * 32))
    # Bob is there where we dial.
    dial = answerer.client.port.dials[0]
    here: Any = dial.factory.buildProtocol(dial.remote)
    ticket = makeTicket(Side.CALLER, BOB, ALICE, b"s" * 16)
    bob = PunchedConnection(answerer.clock, Way.ACCEPTED, HERE, ticket)
    pair = Pair(answerer.clock, here, bob)
    dial.connecting.callback(here)
    pair.flush()
    heard = Heard()
    bob.path.attach(heard)
    bob.path.write([Join(b"l" * 16, 1, True, 0).pack()])
    pair.flush()
    assert heard.frames == [(Kind.DECLINED, (True, "this peer does not trust that one"))]
    assert answerer.links.toJSON() == {}
    answerer.clock.advance(10)
    pair.flush()


def test_whyThereIsNoRelayedPathEitherIsKnownToo(answerer: Answerer) -> None:
    answerer.call(limit=Limited("bob may have 10 bytes", 9.0))
    answerer.clock.advance(4)
    answerer.clock.advance(GRACE)
    reason = answerer.links.toJSON()["bob"]["reason"]
    assert reason.startswith("no direct path to bob: dial")
    assert reason.endswith("no relayed path either: bob may have 10 bytes")


@pytest.mark.parametrize("isPunching", [True, False])
def test_stoppingEndsTheWayThroughTheRelay(
    answerer: Answerer, monkeypatch: pytest.MonkeyPatch, isPunching: bool
) -> None:
    opening: list[Deferred[None]] = []

    def relayed(*arguments: object) -> Deferred[None]:
        opening.append(Deferred())
        return opening[0]

    monkeypatch.setattr("punchd.peer.answering.relayDialler", lambda *arguments: relayed)
    answerer.call()
    if not isPunching:
        answerer.clock.advance(4)
        answerer.clock.advance(GRACE)
    (one,) = opening
    stopped = [one.called]
    answerer.links.abort()
    assert [*stopped, one.called] == [False, True]
    assert not answerer.client.usage.isOngoing(BOB.peerID)
    answerer.punches.stop()
    assert answerer.clock.getDelayedCalls() == []


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
