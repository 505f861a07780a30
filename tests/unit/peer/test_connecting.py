"""
Tests for L{punchd.peer.connecting}: the caller's side, with servers that are none.
"""

from pathlib import Path
from random import Random
from typing import Any, cast

import pytest
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from punchd.errors import NoPath, Overlapping, PunchdError, Refused, UnknownPeer, Unreachable
from punchd.interfaces import IStreamOpener
from punchd.net.held import HeldPort
from punchd.peer.access import AllowList
from punchd.peer.connecting import Connecting
from punchd.peer.dialling import Dialling
from punchd.peer.exposing import Exposures
from punchd.peer.links import Links
from punchd.values.addresses import Address, makeAddress
from punchd.values.parties import Offer
from punchd.values.peers import PeerAddress
from punchd.wire.commands import OWN, Introduce, toldArguments
from tests.unit.link.pairs import ALICE, BOB
from tests.unit.net.memory import HERE
from tests.unit.net.ports import FakePort
from tests.unit.peer.clients import PUBLIC, FakeClient, Watcher, makePins, makePunches
from tests.unit.peer.punches import dialling


class Opener:
    """
    Alice, with some servers; Bob is pinned.
    """

    def __init__(self, folder: Path, servers: int = 1) -> None:
        self.clock = Clock()
        self.watcher = Watcher()
        self.punches = makePunches(self.clock, {"dial": dialling("dial")}, self.watcher, folder)
        self.clients = [FakeClient(self.clock, f"s{number}.example") for number in range(servers)]
        pins = makePins(folder, bob=BOB.peerID)
        clients = [client.asClient for client in self.clients]
        self.links = Links(
            self.clock,
            Random(1),
            lambda length: b"l" * length,
            PeerAddress("alice", ALICE.peerID),
            Dialling(clients, self.punches),
            Exposures({}, AllowList.parse(pins, [])),
        )
        self.connecting = Connecting(pins, self.links)
        self.errors: list[PunchdError] = []
        self.opened: list[Any] = []

    @property
    def client(self) -> FakeClient:
        return self.clients[0]

    def open(self, peer: str = "bob") -> "Opener":
        self.connecting.openStream(peer, "ssh").addCallbacks(self.opened.append, self._failed)
        return self

    def _failed(self, failure: Failure) -> None:
        assert isinstance(failure.value, PunchdError | CancelledError)
        self.errors.append(failure.value)  # type: ignore[arg-type]

    def answer(self, client: int = 0, reflexive: Address = PUBLIC, session: int = 1) -> None:
        """
        Let the server introduce us.
        """
        self.clients[client].asked[-1][2].callback(
            {
                "session": bytes([session]) * 16,
                "own": HERE,
                "reflexive": reflexive,
                "relay": None,
                **toldArguments(Offer(strategies=(("dial", 1),))),
                **toldArguments(Offer(strategies=(("dial", 1),)), OWN),
            }
        )

    def refuse(self, error: Exception, client: int = 0) -> None:
        self.clients[client].asked[-1][2].errback(Failure(error))

    @property
    def error(self) -> PunchdError:
        (error,) = self.errors
        return error


@pytest.fixture
def opener(tmp_path: Path) -> Opener:
    return Opener(tmp_path)


def test_itOpensStreams(opener: Opener) -> None:
    verifyObject(IStreamOpener, opener.connecting)


def test_theServerIsAskedForThePinnedPeer(opener: Opener) -> None:
    opener.open()
    command, arguments, _ = opener.client.asked[0]
    assert command is Introduce
    assert (arguments["peer"], arguments["token"]) == (BOB.peerID, None)
    opener.connecting.stop()


def test_whoIsNotPinnedIsUnknown(opener: Opener) -> None:
    opener.open("carol")
    assert isinstance(opener.error, UnknownPeer)
    assert opener.client.asked == []


def test_withoutAServerItSaysWhichAndWhy(tmp_path: Path) -> None:
    opener = Opener(tmp_path, 2)
    for client in opener.clients:
        client.isConnected = False
    opener.clients[1].problem = "the name 'alice' is taken"
    opener.open()
    opener.clock.pump([0.05] * 40)
    assert isinstance(opener.error, Unreachable)
    assert str(opener.error) == (
        "not connected to any server (s0.example:7761: still connecting; "
        "s1.example:7761: the name 'alice' is taken)"
    )


def test_aServerThatComesBackSoonIsWaitedFor(tmp_path: Path) -> None:
    opener = Opener(tmp_path, 1)
    opener.clients[0].isConnected = False
    opener.open()
    opener.clock.pump([0.05] * 10)
    assert not opener.clients[0].asked
    opener.clients[0].isConnected = True
    opener.clock.advance(0.05)
    assert len(opener.clients[0].asked) == 1


def test_anotherServerIsAskedWhenOneDoesNotKnowThePeer(tmp_path: Path) -> None:
    opener = Opener(tmp_path, 2).open()
    opener.refuse(UnknownPeer("not here"), 0)
    assert len(opener.clients[1].asked) == 1
    opener.refuse(UnknownPeer("nor here"), 1)
    assert str(opener.error) == "nor here"


def test_aRefusalIsNotTakenToAnotherServer(tmp_path: Path) -> None:
    opener = Opener(tmp_path, 2).open()
    opener.refuse(Refused("not allowed"), 0)
    assert opener.clients[1].asked == []
    assert str(opener.error) == "not allowed"


def test_theIntroductionIsRun(opener: Opener) -> None:
    opener.open().answer()
    assert [dial.remote for dial in opener.client.port.dials] == [PUBLIC]
    opener.connecting.stop()


@pytest.mark.parametrize("host", ["127.0.0.1", "192.168.1.1", "169.254.169.254", "224.0.0.1"])
def test_nothingIsSentToAnAddressThatIsNotForUs(opener: Opener, host: str) -> None:
    opener.open().answer(reflexive=makeAddress(host, 4000))
    assert "no address for us to dial" in str(opener.error)
    assert opener.client.port.dials == []
    assert opener.clock.getDelayedCalls() == []


def test_whenNothingOpensThereIsNoPath(opener: Opener) -> None:
    opener.open().answer()
    opener.clock.advance(4)
    assert isinstance(opener.error, NoPath)
    opener.punches.stop()
    assert opener.clock.getDelayedCalls() == []


def test_theServerHearsOfTheEnd(opener: Opener) -> None:
    opener.open().answer()
    opener.clock.advance(4)
    assert opener.client.reports == [(b"\x01" * 16, None)]


def test_theLinkKnowsWhyThereIsNoPath(opener: Opener) -> None:
    opener.open().answer()
    opener.clock.advance(4)
    facts = opener.links.toJSON()["bob"]
    assert facts["reason"] == str(opener.error)
    assert [attempt["strategy"] for attempt in facts["attempts"]] == ["dial"]


def test_whileThePortIsUsedTowardAPeerAFreshOneIsTaken(opener: Opener) -> None:
    opener.client.usedToward[BOB.peerID] = 1
    opener.open()
    assert opener.client.asked[0][1]["token"] == b"t" * 16
    opener.connecting.stop()
    assert opener.client.released == opener.client.ports


def test_whenIntroductionsOverlapAFreshPortIsTaken(opener: Opener) -> None:
    opener.open().refuse(Overlapping("another one is under way"))
    assert [arguments["token"] for _, arguments, _ in opener.client.asked] == [None, b"t" * 16]
    opener.connecting.stop()


def test_overlappingIsNotTriedForEver(opener: Opener) -> None:
    opener.open()
    for _ in range(3):
        opener.refuse(Overlapping("another one is under way"))
    assert isinstance(opener.error, Overlapping)
    assert len(opener.client.asked) == 3
    assert opener.client.released == opener.client.ports


@pytest.mark.parametrize("answered", [False, True])
def test_cancellingEndsEverything(opener: Opener, answered: bool) -> None:
    opening = opener.connecting.openStream("bob", "ssh")
    opening.addErrback(lambda failure: failure.trap(CancelledError) and None)
    if answered:
        opener.answer()
    opening.cancel()
    assert opener.clock.getDelayedCalls() == []
    assert opener.client.usedToward[BOB.peerID] == 0
    assert all(dial.isCancelled for dial in opener.client.port.dials)


def test_stoppingGivesUpOnAllOfThem(opener: Opener) -> None:
    opener.open().open()
    opener.connecting.stop()
    assert len(opener.errors) == 2


def test_afterAFailureThePortIsFree(opener: Opener) -> None:
    opener.open().refuse(UnknownPeer("not here"))
    assert opener.client.usedToward[BOB.peerID] == 0


# IPv6


def six(opener: Opener, number: int, token: bytes) -> Any:
    port = FakePort(opener.clock, number=number, token=token, interface="2001:db8::1")
    return cast(HeldPort, port)


def test_theServerIsToldThePortOfOurIPv6Candidate(opener: Opener) -> None:
    opener.client.ipv6.port = six(opener, 6000, b"6" * 16)
    opener.open()
    assert opener.client.asked[0][1]["ipv6token"] == b"6" * 16
    opener.connecting.stop()
    assert opener.client.released == []


def test_anotherStreamHasAnIPv6PortOfItsOwn(opener: Opener) -> None:
    opener.client.ipv6.port = six(opener, 6000, b"6" * 16)
    fresh = six(opener, 6001, b"7" * 16)
    opener.client.ipv6.others = [succeed(fresh)]
    opener.client.usedToward[BOB.peerID] = 1
    opener.open()
    assert opener.client.asked[0][1]["ipv6token"] == b"7" * 16
    opener.connecting.stop()
    assert fresh in opener.client.released


def test_aStreamThatIsGivenUpReleasesBothPorts(opener: Opener) -> None:
    taking: Deferred[HeldPort | None] = Deferred()
    opener.client.ipv6.others = [taking]
    opener.client.usedToward[BOB.peerID] = 1
    opener.open()
    opener.connecting.stop()
    assert opener.client.asked == []
    assert opener.client.released == opener.client.ports


def test_withoutAFreshPortTheIPv6PortIsReleased(opener: Opener) -> None:
    fresh = six(opener, 6001, b"7" * 16)
    opener.client.ipv6.others = [succeed(fresh)]
    opener.client.usedToward[BOB.peerID] = 1
    opener.client.problemWithPorts = Unreachable("the assist service does not answer")
    opener.open()
    assert opener.client.released == [fresh]
    assert str(opener.error) == "the assist service does not answer"
