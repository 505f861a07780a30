"""
Tests for L{punchd.peer.links}: which link is whose, and how many there may be.
"""

from collections.abc import Iterator

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone

from punchd.errors import Unreachable
from punchd.link.path import Path
from punchd.peer.keeping import Link
from punchd.peer.links import MOST_LINKS
from punchd.values.peers import PeerAddress, PeerID
from punchd.wire.frames import FrameReader, Join, Kind, unpackEnd
from tests.unit.link.pairs import User
from tests.unit.link.wires import ALICE, BOB, Wire
from tests.unit.peer.kept import Peers, twoPeers

MALLORY = PeerID(b"m" * 32)


@pytest.fixture
def peers() -> Iterator[Peers]:
    with twoPeers() as peers:
        yield peers


def join(peers: Peers, number: int, who: PeerID = ALICE, isNew: bool = True) -> Wire:
    """
    Let somebody join one of Bob's links.
    """
    paths = [Path(peers.clock, lambda: None) for _ in range(2)]
    paths[0].peerID, paths[1].peerID = peers.bob.own, who
    meeting = peers.meetingOf(peers.bob)
    name = "alice" if who == ALICE else "mallory"
    paths[1].onJoin = lambda path, join: peers.bob.links.joined(name, who, path, meeting)
    wire = Wire(peers.clock, *paths)
    peers.wires.append(wire)
    paths[0].write([Join(bytes([number]) * 16, 1, isNew, 0).pack()])
    # The answers wait to be looked at.
    wire.ends[0].deliver(1000)
    return wire


def answers(wire: Wire) -> list[tuple[Kind, bytes]]:
    """
    What Bob says.
    """
    return [(kind, payload) for kind, _, payload in FrameReader().read(bytes(wire.ends[1].sent))]


def isDeclinedAsUnknown(wire: Wire) -> bool:
    ((kind, payload),) = answers(wire)
    return kind is Kind.DECLINED and unpackEnd(payload) == (
        True,
        "that peer knows nothing of the link any more: it may have been restarted",
    )


def ended(links: list[Link]) -> list[bool]:
    return [link.session.isOver for link in links]


def test_aNewLinkIsMadeForAPeerThatWantsOne(peers: Peers) -> None:
    wire = join(peers, 1)
    assert answers(wire)[0][0] is Kind.JOINED
    assert peers.bob.link.number == bytes([1]) * 16
    assert peers.bob.facts["path"] == "direct"
    assert peers.bob.facts["seconds"]["elected"] == 0


def test_aLinkThatIsNotKnownIsDeclinedForGood(peers: Peers) -> None:
    assert isDeclinedAsUnknown(join(peers, 1, isNew=False))
    assert peers.bob.links.toJSON() == {}


@pytest.mark.parametrize("isNew", [True, False])
def test_nobodyJoinsTheLinkOfAnother(peers: Peers, isNew: bool) -> None:
    join(peers, 1)
    path = peers.bob.link.session.path
    assert isDeclinedAsUnknown(join(peers, 1, MALLORY, isNew))
    assert peers.bob.link.session.path is path


def test_aPeerHasOnlySoManyLinksAndTheOldestGoes(peers: Peers) -> None:
    links = []
    for number in range(MOST_LINKS):
        join(peers, number)
        links.append(peers.bob.link)
    assert ended(links) == [False] * MOST_LINKS
    join(peers, MOST_LINKS)
    assert ended(links) == [True] + [False] * (MOST_LINKS - 1)


def test_thoseWithoutAPathGoFirst(peers: Peers) -> None:
    links = []
    wires = []
    for number in range(MOST_LINKS):
        wires.append(join(peers, number))
        links.append(peers.bob.link)
    wires[2].kill()
    join(peers, MOST_LINKS)
    assert ended(links) == [False, False, True, False]


def test_thePeersLinksDoNotCountForAnother(peers: Peers) -> None:
    links = []
    for number in range(MOST_LINKS):
        join(peers, number)
        links.append(peers.bob.link)
    join(peers, 9, MALLORY)
    assert ended(links) == [False] * MOST_LINKS


def test_theLinkToAPeerIsOneThatHasAPath(peers: Peers) -> None:
    # Alice was restarted: of the old link, Bob only knows that its path is gone.
    join(peers, 1).kill()
    old = peers.bob.link
    join(peers, 2)
    assert peers.bob.link is not old
    new, wire = peers.bob.link, join(peers, 3)
    wire.kill()
    assert peers.bob.link is new


def test_whatIsKnownOfAPeerOutlivesItsLinks(peers: Peers) -> None:
    peers.linked()
    peers.alice.link.openStream("ssh").write(b"hello")
    peers.flush()
    peers.alice.link.abort("enough")
    told = peers.alice.facts
    assert (told["path"], told["streams"], told["bytesOut"]) == (None, 0, 5)
    assert peers.alice.links.factsOf("robert", peers.bob.own).bytesOut == 5
    assert list(peers.alice.links.toJSON()) == ["robert"]


def test_aLinkThatIsOverIsForgotten(peers: Peers) -> None:
    wire = join(peers, 1)
    peers.bob.link.abort("enough")
    peers.flush()
    assert not wire.isOpen
    assert isDeclinedAsUnknown(join(peers, 1, isNew=False))


def test_stoppingEndsLinksAndWhatOthersHaveAskedFor(peers: Peers) -> None:
    told: list[object] = []
    meeting: Deferred[None] = Deferred()
    meeting.addErrback(lambda failure: told.append(failure.type))
    over: Deferred[None] = Deferred()
    peers.bob.links.answer(meeting)
    peers.bob.links.answer(over)
    over.callback(None)
    join(peers, 1)
    peers.bob.links.abort()
    assert told == [CancelledError]
    late = join(peers, 2)
    ((kind, payload),) = answers(late)
    assert (kind, unpackEnd(payload)) == (Kind.DECLINED, (True, "the peer is being stopped"))


def streamed(peers: Peers) -> tuple[User, User]:
    """
    A stream from Alice to Bob, with a user at each end.
    """
    users = User(), User()
    peers.linked()
    peers.alice.link.openStream("ssh").carry(users[0])
    peers.flush()
    peers.bob.asks[-1].agree()
    peers.bob.asks[-1].carry(users[1])
    peers.flush()
    return users


def test_drainingLetsStreamsFinish(peers: Peers) -> None:
    users = streamed(peers)
    over: list[object] = []
    peers.bob.links.drain().addCallback(over.append)
    users[0].transport.write(b"still")
    peers.advance(60)
    assert (users[1].received, over) == (b"still", [])
    for user in users:
        user.transport.loseConnection()
    peers.flush()
    assert over
    for user in users:
        assert user.lost is not None
        assert user.lost.check(ConnectionDone)


def test_whileItDrainsNoStreamsAreOpened(peers: Peers) -> None:
    streamed(peers)
    link = peers.alice.link
    peers.bob.links.drain()
    peers.flush()
    refused: list[str] = []
    link.openStream("ssh").opened.addErrback(lambda failure: refused.append(str(failure.value)))
    assert refused == ["the link ends: the peer is being stopped"]
    with pytest.raises(Unreachable, match="the peer is being stopped"):
        peers.bob.links.to("alice", ALICE)
    ((kind, payload),) = answers(join(peers, 9))
    assert (kind, unpackEnd(payload)) == (Kind.DECLINED, (True, "the peer is being stopped"))


def test_whatDrainsIsShownUntilItIsOver(peers: Peers) -> None:
    streamed(peers)
    peers.bob.links.drain()
    peers.flush()
    assert (peers.bob.facts["path"], peers.bob.facts["streams"]) == ("direct", 1)
    peers.bob.links.abort()
    assert (peers.bob.facts["path"], peers.bob.facts["streams"]) == (None, 0)


def test_whatDrainsMayMoveToAnotherPath(peers: Peers) -> None:
    users = streamed(peers)
    peers.bob.links.drain()
    peers.flush()
    peers.lose()
    peers.advance(1)
    peers.connect()
    peers.flush()
    users[0].transport.write(b"still")
    peers.flush()
    assert users[1].received == b"still"


def test_linksWithoutStreamsEndAtOnce(peers: Peers) -> None:
    peers.linked()
    over: list[object] = []
    link = peers.alice.link
    peers.bob.links.drain().addCallback(over.append)
    assert over
    peers.flush()
    assert link.session.isOver


def test_stoppingWaitsUntilTheOtherEndsHaveHeard(peers: Peers) -> None:
    streamed(peers)
    heard: list[object] = []
    peers.bob.links.abort().addCallback(heard.append)
    assert heard == []
    peers.flush()
    assert heard
    nobody: list[object] = []
    peers.bob.links.abort().addCallback(nobody.append)
    assert nobody


def test_whoIsTiredOfWaitingLeavesNothing(peers: Peers) -> None:
    streamed(peers)
    failed: list[object] = []
    for waiting in (peers.bob.links.drain(), peers.bob.links.abort()):
        waiting.addErrback(lambda failure: failed.append(failure.type))
        waiting.cancel()
    peers.flush()


# Pins that change.


def test_aPeerThatIsRenamedHasItsNewNameInNewStreams(peers: Peers) -> None:
    peers.linked()
    link = peers.alice.link
    old = link.openStream("ssh")
    peers.alice.links.pinsChanged({BOB: "robert"}.get)
    new = link.openStream("ssh")
    assert (old.getPeer(), new.getPeer()) == (PeerAddress("bob", BOB), PeerAddress("robert", BOB))
    assert list(peers.alice.links.toJSON()) == ["robert"]
    peers.flush()
    peers.bob.links.pinsChanged({ALICE: "alicia"}.get)
    link.openStream("ssh")
    peers.flush()
    assert [str(stream.getPeer()).split()[0] for stream in peers.bob.asks] == [
        "alice",
        "alice",
        "alicia",
    ]


def test_theNewNameIsThatOfTheLinkWhenItIsDialledToo(peers: Peers) -> None:
    peers.linked()
    peers.alice.links.pinsChanged({BOB: "robert"}.get)
    peers.advance(20)
    peers.lose()
    peers.advance(1)
    assert peers.alice.dial.wanted.peer == "robert"


def test_theLinksOfWhoIsNotTrustedAnyMoreEnd(peers: Peers) -> None:
    peers.linked()
    users = User(), User()
    peers.alice.link.openStream("ssh").carry(users[0])
    peers.flush()
    peers.bob.asks[0].agree()
    peers.bob.asks[0].carry(users[1])
    bobs = peers.bob.links.to("alice", ALICE)
    peers.bob.links.pinsChanged({MALLORY: "alice"}.get)
    assert bobs.session.isOver
    assert peers.bob.links.toJSON() == {}
    peers.flush()
    for user in users:
        assert user.lost is not None
        assert "does not trust" in user.lost.getErrorMessage()
    assert peers.alice.facts["path"] is None


# A peer that begins anew.


def test_whenAPeerMakesANewLinkThoseThatItHasLostEnd(peers: Peers) -> None:
    user = User()
    peers.linked()
    peers.alice.link.openStream("ssh")
    peers.flush()
    peers.bob.asks[0].agree()
    peers.bob.asks[0].carry(user)
    old = peers.bob.link
    peers.lose()
    told = ended([old])
    join(peers, 7)
    assert [*told, *ended([old])] == [False, True]
    assert user.lost is not None
    assert "begun anew" in user.lost.getErrorMessage()


def test_aLinkThatTheOtherEndHasNotHeardOfIsNotEndedByItsNewOne(peers: Peers) -> None:
    peers.bob.reach()
    peers.connect(by=peers.bob, silent=True).kill()
    old = peers.bob.link
    join(peers, 7)
    assert not old.session.isOver
