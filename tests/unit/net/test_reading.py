"""
Tests for L{punchd.net.reading}: on real sockets, without a reactor.
"""

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.tcp import Connection
from twisted.internet.testing import MemoryReactor, StringTransport

from punchd.net.reading import readLargely


class Reading:
    """
    A transport that reads largely, and the other end of its socket.
    """

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        here, self.there = socket.socketpair()
        self.here = here
        reactor: Any = MemoryReactor()
        self.transport: Any = Connection(here, Protocol(), reactor)
        readLargely(self.transport, lambda data: self.taken.append(bytes(data)), Clock())


@pytest.fixture
def reading() -> Iterator[Reading]:
    made = Reading()
    yield made
    made.here.close()
    made.there.close()


def test_whatComesIsTakenAtOnce(reading: Reading) -> None:
    data = bytes(range(256)) * 250
    reading.there.sendall(data)
    assert reading.transport.doRead() is None
    assert reading.taken == [data]


def test_whereThereIsNothingNothingHappens(reading: Reading) -> None:
    assert reading.transport.doRead() is None
    assert reading.taken == []


def test_theEndIsTold(reading: Reading) -> None:
    reading.there.close()
    assert reading.transport.doRead() is CONNECTION_DONE


def test_soIsABreak(reading: Reading) -> None:
    reading.here.close()
    assert reading.transport.doRead() is CONNECTION_LOST


def test_anAbortedTransportReadsNoMore(reading: Reading) -> None:
    reading.transport.reactor.callLater = lambda *later: None
    reading.there.sendall(b"too late")
    reading.transport.abortConnection()
    assert reading.transport.doRead() is None
    assert reading.taken == []


def test_otherTransportsStayAsTheyAre() -> None:
    transport = StringTransport()
    before = dict(vars(transport))
    readLargely(transport, lambda data: None, Clock())
    assert vars(transport) == before
