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
from punchd.link.path import LEAVING, Path
from punchd.wire.frames import FrameReader, Join, Kind, packPosition
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
