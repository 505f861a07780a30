"""
UDP ports of the kernel's, on loopback.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol
from zope.interface.verify import verifyObject

from punchd.errors import Unreachable
from punchd.nat.mapping.exchange import exchange
from punchd.net.datagrams import Datagrams
from tests.files import withoutFiles


@pytest.fixture
def router() -> Iterator[socket.socket]:
    """
    A socket that stands for the router's.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        bound.settimeout(5)
        yield bound


def ask(remote: tuple[str, int], waits: list[float], isConnected: bool = True) -> Deferred[Any]:
    return exchange(Datagrams(reactor), remote, b"?", lambda said: said, waits, isConnected)


@pytest.mark.parametrize("isConnected", [True, False])
@pytest_twisted.ensureDeferred
async def test_anAnswerComesBack(router: socket.socket, isConnected: bool) -> None:
    asking = ask(router.getsockname(), [5.0], isConnected)
    question, addr = router.recvfrom(100)
    assert question == b"?"
    router.sendto(b"!", addr)
    assert await asking == b"!"


@pytest_twisted.ensureDeferred
async def test_whatOthersSendIsNotHeard(router: socket.socket) -> None:
    asking = ask(router.getsockname(), [5.0])
    _, addr = router.recvfrom(100)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        other.sendto(b"forged", addr)
    router.sendto(b"!", addr)
    assert await asking == b"!"


@pytest_twisted.ensureDeferred
async def test_nobodyThereIsKnownBeforeTheTimeIsUp(router: socket.socket) -> None:
    where = router.getsockname()
    router.close()
    with pytest.raises(Unreachable, match="nobody who would answer"):
        await ask(where, [60.0])


@pytest_twisted.ensureDeferred
async def test_silenceEndsInTime(router: socket.socket) -> None:
    with pytest.raises(Unreachable, match="does not answer"):
        await ask(router.getsockname(), [0.02, 0.02])
    assert [router.recv(100) for _ in range(2)] == [b"?", b"?"]


@pytest_twisted.ensureDeferred
async def test_whereThereIsNoWayItIsSaid() -> None:
    # Class E (RFC 1112, 4): the kernel has no route for it.
    with pytest.raises(Unreachable):
        await ask(("255.255.255.255", 5351), [0.05], isConnected=False)


def test_aTakenPortCannotBeHad(router: socket.socket) -> None:
    number = router.getsockname()[1]
    with pytest.raises(CannotListenError):
        Datagrams(reactor).listenUDP(number, DatagramProtocol())


def test_withoutAFileDescriptorThereIsNoPort() -> None:
    with withoutFiles(), pytest.raises(CannotListenError):
        Datagrams(reactor).listenUDP(0, DatagramProtocol())


class Hasty(DatagramProtocol):
    def startProtocol(self) -> None:
        self.transport.connect("255.255.255.255", 9)  # type: ignore[union-attr]


def test_aPortWhoseProtocolCannotStartIsClosed() -> None:
    pool: Any = reactor
    before = set(pool.getReaders())
    with pytest.raises(OSError, match=r"."):
        Datagrams(reactor).listenUDP(0, Hasty())
    assert set(pool.getReaders()) == before


def test_aPortIsAReadDescriptor() -> None:
    from twisted.internet.interfaces import IReadDescriptor

    protocol = DatagramProtocol()
    Datagrams(reactor).listenUDP(0, protocol)
    port: Any = protocol.transport
    assert verifyObject(IReadDescriptor, port)
    port.stopListening()
    port.stopListening()
    assert port.fileno() == -1
