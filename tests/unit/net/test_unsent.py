"""
Tests for L{punchd.net.unsent}: on real sockets, without a reactor.
"""

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.tcp import Connection
from twisted.internet.testing import MemoryReactor, StringTransport
from zope.interface import implementer
from zope.interface.verify import verifyObject

from punchd.net.unsent import FIRST, LEAST, MOST, QUICK, SLOW, boundUnsent

pytestmark = pytest.mark.skipif(
    not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="this system has no such bound"
)


@implementer(IPushProducer)
class Producer:
    """
    Remembers what it was told.
    """

    def __init__(self) -> None:
        self.heard: list[str] = []

    def pauseProducing(self) -> None:
        self.heard.append("pause")

    def resumeProducing(self) -> None:
        self.heard.append("resume")

    def stopProducing(self) -> None:
        self.heard.append("stop")


class Bounded:
    """
    A producer, and the TCP connection that it writes to.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.producer = Producer()
        self.handle = socket.socket()
        reactor: Any = MemoryReactor()
        transport: Any = Connection(self.handle, Protocol(), reactor)
        self.unsent = boundUnsent(transport, self.producer, self.clock)

    @property
    def limit(self) -> int:
        return self.handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)

    def wait(self, seconds: float) -> None:
        self.unsent.pauseProducing()
        self.clock.advance(seconds)
        self.unsent.resumeProducing()


@pytest.fixture
def bounded() -> Iterator[Bounded]:
    made = Bounded()
    yield made
    made.handle.close()


def test_theProducerHearsEverything(bounded: Bounded) -> None:
    assert verifyObject(IPushProducer, bounded.unsent)
    bounded.wait(0)
    bounded.unsent.stopProducing()
    assert bounded.producer.heard == ["pause", "resume", "stop"]


def test_aQuickConnectionMayHaveMoreWaiting(bounded: Bounded) -> None:
    assert bounded.limit == FIRST
    bounded.wait(QUICK / 2)
    assert bounded.limit == 2 * FIRST
    for _ in range(20):
        bounded.wait(QUICK / 2)
    assert bounded.limit == MOST


def test_aSlowOneLess(bounded: Bounded) -> None:
    for _ in range(20):
        bounded.wait(SLOW * 2)
    assert bounded.limit == LEAST


def test_betweenThemNothingChanges(bounded: Bounded) -> None:
    bounded.wait((QUICK + SLOW) / 2)
    assert bounded.limit == FIRST


def test_aConnectionThatIsGoneIsNoMatter(bounded: Bounded) -> None:
    bounded.handle.close()
    bounded.wait(QUICK / 2)
    assert bounded.producer.heard == ["pause", "resume"]


def test_otherTransportsHaveNoSuchBound() -> None:
    producer = Producer()
    assert boundUnsent(StringTransport(), producer, Clock()) is producer
