"""
Tests for L{punchd.net.writing}: on real sockets, without a reactor.
"""

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.internet.tcp import Connection
from twisted.internet.testing import MemoryReactor, StringTransport
from twisted.python.failure import Failure

from punchd.net.pieces import PieceStream
from punchd.net.splicing import spliceEnds
from punchd.net.writing import MOST, dropUnsent, writeAtOnce, writeLargely
from tests.unit.net.memory import HERE, THERE


class Writing:
    """
    A transport, and the other end of its socket.
    """

    def __init__(self, protocol: Protocol | None = None) -> None:
        here, self.there = socket.socketpair()
        here.setblocking(False)
        self.there.setblocking(False)
        self.here = here
        self.reactor: Any = MemoryReactor()
        self.transport: Any = Connection(here, protocol or Protocol(), self.reactor)
        self.transport.connected = True

    def isWaiting(self) -> bool:
        return bool(self.transport.dataBuffer or self.transport._tempDataBuffer)

    def read(self) -> bytes:
        got = b""
        try:
            while data := self.there.recv(1 << 20):
                got += data
        except BlockingIOError:
            pass
        return got


@pytest.fixture
def writing() -> Iterator[Writing]:
    made = Writing()
    yield made
    made.here.close()
    made.there.close()


def test_whatIsWrittenIsThereAtOnce(writing: Writing) -> None:
    memory = bytearray(b"now")
    writeAtOnce(writing.transport, memoryview(memory))
    assert writing.read() == b"now"
    assert not writing.isWaiting()


def test_whatTheSystemDoesNotTakeWaits(writing: Writing) -> None:
    data = bytes(range(256)) * 20_000
    memory = bytearray(data)
    writeAtOnce(writing.transport, memoryview(memory))
    memory[:] = bytes(len(memory))
    assert writing.isWaiting()
    # What comes next is behind it.
    writeAtOnce(writing.transport, b"next")
    got = b""
    while writing.isWaiting():
        got += writing.read()
        assert writing.transport.doWrite() is None
    assert got + writing.read() == data + b"next"


def test_aLostConnectionIsLeftToTheTransport(writing: Writing) -> None:
    writing.there.close()
    writeAtOnce(writing.transport, b"lost")
    assert writing.isWaiting()
    assert writing.transport.doWrite() is not None


def test_otherTransportsWriteAsTheyDo() -> None:
    transport = StringTransport()
    writeAtOnce(transport, memoryview(b"as ever"))
    assert transport.value() == b"as ever"


def test_theSystemIsGivenAllThatItTakes(writing: Writing) -> None:
    writing.here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MOST)
    data = bytes(300_000)
    writeLargely(writing.transport)
    writeAtOnce(writing.transport, data)
    assert not writing.isWaiting()
    assert writing.read() == data


def test_transportsWithoutASystemStayAsTheyAre() -> None:
    transport = StringTransport()
    before = dict(vars(transport))
    writeLargely(transport)
    assert vars(transport) == before


@pytest.mark.parametrize("make", [lambda: spliceEnds()[0], lambda: PieceStream(HERE, THERE)])
def test_whatWasNotSentIsNotKeptWhenTheConnectionIsLost(make: Callable[[], Protocol]) -> None:
    protocol = make()
    writing = Writing(protocol)
    protocol.makeConnection(writing.transport)
    writeAtOnce(writing.transport, bytes(8 * MOST))
    writing.transport.write(b"and more")
    assert writing.isWaiting()
    writing.transport.connectionLost(Failure(ConnectionLost()))
    assert not writing.isWaiting()
    writing.there.close()


def test_transportsOfOtherKindsKeepWhatTheyHave() -> None:
    transport = StringTransport()
    transport.write(b"as ever")
    dropUnsent(transport)
    assert transport.value() == b"as ever"
