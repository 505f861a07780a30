"""
Tests for L{punchd.peer.connecting}: the caller's side, with servers that are none.
"""

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from punchd.errors import NoPath, PunchdError, UnknownPeer, Unreachable
from punchd.interfaces import IStreamOpener
from punchd.peer.access import AllowList
from punchd.peer.connecting import Connecting
from punchd.peer.dialling import Dialling
from punchd.peer.exposing import Exposures
from punchd.peer.links import Links
from punchd.values.addresses import Address
from punchd.values.parties import Offer
from punchd.values.peers import PeerAddress
from punchd.wire.commands import OWN, toldArguments
from tests.unit.link.pairs import ALICE, BOB
from tests.unit.net.memory import HERE
from tests.unit.peer.clients import PUBLIC, FakeClient, Watcher, makePins, makePunches
from tests.unit.peer.kept import Peers
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
        dialler = Dialling(clients, self.punches)
        self.links = Links(
            self.clock,
            Random(1),
            lambda length: b"l" * length,
            PeerAddress("alice", ALICE.peerID),
            dialler,
            Exposures({}, AllowList.parse(pins, [])),
        )
        self.connecting = Connecting(pins, self.links, dialler)
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


def test_whoIsNotPinnedIsUnknown(opener: Opener) -> None:
    opener.open("carol")
    assert isinstance(opener.error, UnknownPeer)
    assert opener.client.asked == []


def test_whenNothingOpensThereIsNoPath(opener: Opener) -> None:
    opener.open().answer()
    opener.clock.advance(4)
    assert isinstance(opener.error, NoPath)
    opener.punches.stop()
    assert opener.clock.getDelayedCalls() == []


def test_theLinkKnowsWhyThereIsNoPath(opener: Opener) -> None:
    opener.open().answer()
    opener.clock.advance(4)
    facts = opener.links.toJSON()["bob"]
    assert facts["reason"] == str(opener.error)
    assert [attempt["strategy"] for attempt in facts["attempts"]] == ["dial"]


@pytest.mark.parametrize("answered", [False, True])
def test_cancellingEndsEverything(opener: Opener, answered: bool) -> None:
    opening = opener.connecting.openStream("bob", "ssh")
    opening.addErrback(lambda failure: failure.trap(CancelledError) and None)
    if answered:
        opener.answer()
    opening.cancel()
    assert opener.clock.getDelayedCalls() == []
    assert not opener.client.usage.isOngoing(BOB.peerID)
    assert all(dial.isCancelled for dial in opener.client.port.dials)


def test_stoppingGivesUpOnAllOfThem(opener: Opener) -> None:
    opener.open().open()
    opener.connecting.stop()
    assert len(opener.errors) == 2


# A link that was there before.


class Connector:
    """
    Alice, whose link to Bob the test gives its paths.
    """

    def __init__(self, folder: Path) -> None:
        self.peers = Peers()
        pins = makePins(folder, bob=self.peers.bob.own)
        dialler = cast(Dialling, self.peers.alice.dialling)
        self.connecting = Connecting(pins, self.peers.alice.links, dialler)
        self.results: list[Any] = []

    def open(self) -> Deferred[Any]:
        return self.connecting.openStream("bob", "ssh").addBoth(self.results.append)

    def reach(self, again: bool) -> Deferred[Any]:
        return self.connecting.reach("bob", again).addBoth(self.results.append)


@pytest.fixture
def connector(tmp_path: Path) -> Iterator[Connector]:
    connector = Connector(tmp_path)
    yield connector
    connector.connecting.stop()
    connector.peers.end()


def test_aStreamNeedsNoIntroductionWhenThereIsALink(connector: Connector) -> None:
    connector.peers.linked()
    connector.open()
    assert connector.results[0].service == "ssh"
    assert not connector.peers.alice.isDialling()
    connector.peers.flush()
    assert len(connector.peers.bob.asks) == 1


def test_whenTheOtherEndHasForgottenTheLinkAnotherIsMade(connector: Connector) -> None:
    peers = connector.peers.linked()
    old = peers.alice.link
    peers.lose()
    peers.bob.link.abort("it was restarted")
    connector.open()
    peers.connect()
    peers.flush()
    assert connector.results == []
    assert old.session.isOver
    peers.connect()
    peers.flush()
    assert connector.results[0].service == "ssh"
    assert len(peers.bob.asks) == 1


def test_aLinkThatNeverWasIsNotMadeTwice(connector: Connector) -> None:
    connector.open()
    connector.peers.fail(NoPath("bob", (), "nothing could be tried"))
    assert isinstance(connector.results[0].value, NoPath)
    assert not connector.peers.alice.isDialling()
    assert "nothing could be tried" in connector.peers.alice.facts["reason"]


def test_whoReachesAPeerHearsWhenThePathIsTheBest(connector: Connector) -> None:
    connector.reach(again=False)
    connector.peers.connect(isDirect=False, ends=False)
    connector.peers.flush()
    assert connector.results == []
    connector.peers.connect()
    connector.peers.flush()
    assert connector.results == [connector.peers.alice.link]
    assert connector.peers.alice.facts["path"] == "direct"


def test_reachingAgainLooksForAnotherPath(connector: Connector) -> None:
    connector.peers.linked()
    connector.reach(again=True)
    assert connector.results == []
    connector.peers.connect(isDirect=False)
    connector.peers.flush()
    assert connector.results == [connector.peers.alice.link]
    assert connector.peers.alice.facts["path"] == "relayed"


def test_withoutAServerThePresentPathStaysWhenAnotherIsWanted(connector: Connector) -> None:
    connector.peers.linked()
    connector.peers.alice.dialling.problem = Unreachable("not connected to any server")
    connector.reach(again=True)
    assert connector.results[0].check(Unreachable) is not None
    assert connector.peers.alice.facts["path"] == "direct"
    assert not connector.peers.alice.isDialling()


def test_afterALinkHasEndedItIsToldWhyThereIsNone(connector: Connector) -> None:
    connector.peers.linked()
    connector.peers.alice.link.abort("the peer is being stopped")
    told = connector.peers.alice.facts
    why = "the last link is over: the peer is being stopped"
    assert (told["path"], told["reason"]) == (None, why)


def test_afterALinkHasEndedTheNextFailureIsTold(connector: Connector) -> None:
    connector.peers.linked()
    connector.peers.alice.link.abort("the peer is being stopped")
    connector.open()
    connector.peers.fail(UnknownPeer("bob is not there"))
    told = connector.peers.alice.facts
    assert (told["strategy"], told["reason"]) == (None, "bob is not there")


def test_stoppingWhileItSettlesGivesUp(connector: Connector) -> None:
    connector.reach(again=False)
    connector.peers.connect(isDirect=False, ends=False)
    connector.connecting.stop()
    assert connector.results[0].check(CancelledError) is not None
    connector.peers.flush()


def test_afterStoppingNothingIsOpened(connector: Connector) -> None:
    connector.peers.alice.links.abort()
    connector.open()
    assert isinstance(connector.results[0].value, Unreachable)
