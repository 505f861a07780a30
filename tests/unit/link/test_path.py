"""
Tests for L{punchd.link.path}.
"""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from punchd.errors import ProtocolViolation
from punchd.link.path import LEAVING, TURN, Path
from punchd.wire.frames import FrameReader, Join, Kind, packPosition, unpackPosition
from tests.unit.link.pairs import Sides
from tests.unit.link.wires import LINK, End

JOIN = Join(LINK, 1, True, 0)


class Alone:
    """
    One end of a path; the other end is the test.
    """

    def __init__(self, alpn: bytes | None = None) -> None:
        self.clock = Clock()
        self.proven = 0
        self.joins: list[Join] = []
        self.path = Path(self.clock, self._proven)
        self.path.onJoin = lambda path, join: self.joins.append(join)
        self.end: Any = End(self.path)
        self.end.other = End(Protocol())
        if alpn is not None:
            self.end.negotiatedProtocol = alpn
        self.path.makeConnection(self.end)
        self.path.handshakeCompleted()

    def _proven(self) -> None:
        self.proven += 1


def test_aPathHearsOfTheHandshake() -> None:
    alone = Alone()
    verifyObject(IHandshakeListener, alone.path)
    assert alone.proven == 1


def test_anotherApplicationProtocolIsAViolation() -> None:
    alone = Alone(b"punchd-link/1")
    assert alone.proven == 0
    assert alone.end.isAborted
    assert "punchd-link/2" in str(alone.path.violation)


def test_theJoinIsHandedOnOnce() -> None:
    alone = Alone()
    alone.path.dataReceived(JOIN.pack())
    assert alone.joins == [JOIN]
    alone.path.dataReceived(JOIN.pack())
    assert alone.joins == [JOIN]
    assert isinstance(alone.path.violation, ProtocolViolation)
    assert alone.end.isAborted


def test_whatIsDeclinedHearsWhyAndEndsInOrder() -> None:
    alone = Alone()
    alone.path.decline("another one has won")
    [(kind, _, payload)] = FrameReader().read(bytes(alone.end.sent))
    assert (kind, payload) == (Kind.DECLINED, b"\x00another one has won")
    assert alone.end.isClosing
    alone.path.connectionLost()
    assert alone.clock.getDelayedCalls() == []


def test_leavingEndsByForceIfItMust() -> None:
    alone = Alone()
    alone.path.leave()
    assert alone.end.isClosing
    assert not alone.end.isAborted
    alone.clock.advance(LEAVING)
    assert alone.end.isAborted


def test_whoHasLeftHearsAndSaysNothing() -> None:
    alone = Alone()
    alone.path.leave()
    alone.path.write([packPosition(Kind.PING, 1)])
    alone.path.dataReceived(b"\xff" * 100)
    assert alone.end.sent == b""
    assert alone.path.violation is None
    alone.path.connectionLost()


def test_whoeverWaitsForTheEndHearsOfIt() -> None:
    alone = Alone()
    ended: list[None] = []
    alone.path.whenLost().addCallback(ended.append)
    alone.end.lose(ConnectionLost())
    alone.path.whenLost().addCallback(ended.append)
    assert ended == [None, None]


@given(st.lists(st.binary(min_size=1, max_size=60), max_size=6))
def test_garbageRaisesNothing(pieces: list[bytes]) -> None:
    alone = Alone()
    for piece in pieces:
        alone.path.dataReceived(piece)
    alone.path.connectionLost()
    assert alone.clock.getDelayedCalls() == []


def test_aConnectionThatSettledHasAPathToItsPeer() -> None:
    sides = Sides()
    assert sides.caller.path.peerID == sides.caller.ticket.expected  # type: ignore[union-attr]
    sides.end()


# Many frames at once.


class Slow:
    """
    Takes a third of a turn for each frame.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.pings: list[int] = []
        self.batches = 0
        self.lost: list[str] = []

    def frameReceived(self, path: Path, kind: Kind, stream: int, payload: bytes) -> None:
        self.pings.append(unpackPosition(payload))
        self.clock.rightNow += TURN / 3

    def batchReceived(self, path: Path) -> None:
        self.batches += 1

    def violated(self, path: Path, violation: ProtocolViolation) -> None:
        raise violation

    def pathLost(self, path: Path, why: str) -> None:
        self.lost.append(why)


def busy() -> tuple[Alone, Slow]:
    """
    A path over which ten frames have come, of which its user has had the first ones.
    """
    alone = Alone()
    slow = Slow(alone.clock)
    alone.path.attach(slow)
    alone.path.dataReceived(b"".join(packPosition(Kind.PING, one) for one in range(10)))
    assert slow.pings == [0, 1, 2, 3]
    assert not alone.end.isReading
    return alone, slow


def test_othersHaveTheirTurnBetweenManyFrames() -> None:
    alone, slow = busy()
    assert slow.batches == 1
    # Its clock runs what comes due meanwhile, too.
    alone.clock.advance(0)
    assert slow.pings == [*range(10)]
    assert slow.batches == 3
    assert alone.end.isReading
    assert alone.clock.getDelayedCalls() == []
    alone.path.dataReceived(packPosition(Kind.PING, 10))
    assert slow.pings[-1] == 10


def test_whatHasComeIsHandedOnBeforeThePathIsLost() -> None:
    alone, slow = busy()
    gone: list[None] = []
    alone.path.whenLost().addCallback(gone.append)
    alone.end.lose(ConnectionLost())
    assert slow.lost == []
    assert gone == []
    alone.clock.advance(0)
    assert slow.pings == [*range(10)]
    assert len(slow.lost) == 1
    assert gone == [None]
    assert alone.clock.getDelayedCalls() == []


def test_whoLeavesHearsNoMore() -> None:
    alone, slow = busy()
    alone.path.leave()
    alone.clock.advance(0)
    # So that the other end's farewell is read.
    assert alone.end.isReading
    alone.path.connectionLost()
    assert slow.pings == [0, 1, 2, 3]
    assert slow.lost == []
    assert alone.clock.getDelayedCalls() == []
