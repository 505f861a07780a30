"""
Tests for L{punchd.peer.arrivals}.
"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from zope.interface.verify import verifyObject

from punchd.link.punched import DEADLINE
from punchd.peer.arrivals import LINES_AT_ONCE, LINES_PER_SECOND, MOST_STRANGERS, Arrivals
from punchd.wire.proving import SEAL_LENGTH, Challenge
from tests.unit.net.memory import HERE, THERE, MemoryTransport, lost
from tests.unit.server.pretending import Journal


class Arriving:
    """
    A held port's acceptor, where no introduction is under way.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.arrivals = Arrivals(self.clock, lambda session: None)
        self.accepted: list[tuple[Any, MemoryTransport]] = []

    def connect(self, number: int = 1) -> int:
        """
        Let so many strangers come.

        @return: how many were let in.
        """
        before = len(self.accepted)
        for _ in range(number):
            protocol: Any = self.arrivals.buildProtocol(THERE)
            if protocol is not None:
                transport = MemoryTransport(protocol, True, HERE, THERE)
                protocol.makeConnection(transport)
                self.accepted.append((protocol, transport))
        return len(self.accepted) - before

    def endAborted(self) -> None:
        for protocol, transport in self.accepted:
            if transport.isAborted:
                protocol.connectionLost(lost())
        self.accepted = [one for one in self.accepted if not one[1].isAborted]


def test_itIsAFactory() -> None:
    verifyObject(IProtocolFactory, Arriving().arrivals)


def test_strangersAreBounded() -> None:
    arriving = Arriving()
    assert arriving.connect(MOST_STRANGERS + 50) == MOST_STRANGERS


def test_strangersThatSayNothingMakePlaceAtTheirDeadline() -> None:
    arriving = Arriving()
    arriving.connect(MOST_STRANGERS)
    arriving.clock.advance(DEADLINE)
    arriving.endAborted()
    assert arriving.connect(MOST_STRANGERS + 1) == MOST_STRANGERS


def test_aStrangerThatIsNotForUsMakesPlaceAtOnce() -> None:
    arriving = Arriving()
    arriving.connect(MOST_STRANGERS)
    arriving.accepted[0][0].dataReceived(b"GET / HTTP/1.0\r\n")
    arriving.endAborted()
    assert arriving.connect(2) == 1


def test_aConnectionOfNoIntroductionIsAborted() -> None:
    arriving = Arriving()
    arriving.connect()
    protocol, transport = arriving.accepted[0]
    protocol.dataReceived(b"PUNCHD\x01\x00" + bytes(32))
    assert transport.isAborted
    assert transport.sent == b""


def test_aFloodOfStrangersDoesNotFillTheLog() -> None:
    arriving = Arriving()
    journal = Journal()

    def knock() -> None:
        for _ in range(1000):
            arriving.connect()
            arriving.accepted[0][0].dataReceived(b"GET / HTTP/1.0\r\n")
            arriving.endAborted()

    globalLogPublisher.addObserver(journal)
    try:
        knock()
        assert len(journal.events) == LINES_AT_ONCE
        arriving.clock.advance(2)
        knock()
    finally:
        globalLogPublisher.removeObserver(journal)
    assert len(journal.events) == LINES_AT_ONCE + 2 * LINES_PER_SECOND


SECRET = b"s" * 32


def challenged(*secrets: bytes, pieces: int = 1) -> tuple[Arriving, MemoryTransport]:
    """
    Let a server come that knows C{SECRET}, while those are expected that know C{secrets}.
    """
    arriving = Arriving()
    arriving.arrivals.secrets.update(secrets)
    arriving.connect()
    protocol, transport = arriving.accepted[0]
    packed = Challenge.make(SECRET, bytes(16)).pack()
    step = -(-len(packed) // pieces)
    for at in range(0, len(packed), step):
        protocol.dataReceived(packed[at : at + step])
    return arriving, transport


@pytest.mark.parametrize("pieces", [1, 2, 7, 56])
def test_aServerThatIsExpectedIsAnswered(pieces: int) -> None:
    _, transport = challenged(b"x" * 32, SECRET, pieces=pieces)
    assert Challenge.make(SECRET, bytes(16)).isAnswered(transport.sent, SECRET)
    assert not transport.isAborted


@pytest.mark.parametrize("secrets", [(), (b"x" * 32,)])
def test_aServerThatIsNotExpectedLearnsNothing(secrets: tuple[bytes, ...]) -> None:
    _, transport = challenged(*secrets)
    assert transport.isAborted
    assert transport.sent == b""


def test_aServerIsAnsweredOnce() -> None:
    arriving, transport = challenged(SECRET)
    arriving.accepted[0][0].dataReceived(b"more")
    assert transport.isAborted
    assert len(transport.sent) == SEAL_LENGTH


def test_aServerThatWasAnsweredIsNoNews() -> None:
    journal = Journal()
    globalLogPublisher.addObserver(journal)
    try:
        arriving, _ = challenged(SECRET)
        arriving.accepted[0][0].connectionLost(lost())
    finally:
        globalLogPublisher.removeObserver(journal)
    assert journal.events == []
    assert arriving.clock.getDelayedCalls() == []


def test_aServerThatSaysHalfOfItHasNotMuchTime() -> None:
    arriving = Arriving()
    arriving.arrivals.secrets.add(SECRET)
    arriving.connect()
    protocol, transport = arriving.accepted[0]
    protocol.dataReceived(Challenge.make(SECRET, bytes(16)).pack()[:-1])
    arriving.clock.advance(DEADLINE)
    assert transport.isAborted


@given(st.lists(st.binary(max_size=60), max_size=5), st.booleans())
def test_anythingThatComesInIsSurvived(pieces: list[bytes], isLike: bool) -> None:
    arriving = Arriving()
    arriving.arrivals.secrets.add(SECRET)
    arriving.connect()
    protocol, transport = arriving.accepted[0]
    for piece in [b"PUNCHC\x01" if isLike else b"", *pieces]:
        if piece and not transport.isAborted:
            protocol.dataReceived(piece)
    assert transport.sent == b""
    protocol.connectionLost(lost())
    assert arriving.clock.getDelayedCalls() == []
