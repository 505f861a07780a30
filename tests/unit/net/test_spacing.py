"""
Tests for L{punchd.net.spacing}: on real sockets, without a reactor.
"""

import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.protocol import Protocol
from twisted.internet.tcp import Connection
from twisted.internet.testing import MemoryReactor, StringTransport

from punchd.net.spacing import spaceLess

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux is asked how it sends"
)


class Sending:
    """
    A TCP connection with a congestion control that somebody has chosen.
    """

    def __init__(self) -> None:
        self.handle = socket.socket()
        reactor: Any = MemoryReactor()
        self.transport = Connection(self.handle, Protocol(), reactor)

    @property
    def used(self) -> str:
        said = self.handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
        return said.rstrip(b"\0").decode()

    def use(self, name: str) -> None:
        self.handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name.encode())


@pytest.fixture
def sending() -> Iterator[Sending]:
    made = Sending()
    yield made
    made.handle.close()


def test_whatIsSpacedByATimerIsNotAnyMore(sending: Sending) -> None:
    try:
        sending.use("bbr")
    except OSError as error:
        pytest.skip(f"this system has no BBR, or does not allow it: {error}")
    spaceLess(sending.transport)
    assert sending.used == "cubic"


def test_anotherChoiceStays(sending: Sending) -> None:
    sending.use("reno")
    spaceLess(sending.transport)
    assert sending.used == "reno"


def test_aConnectionThatIsGoneIsNoError(sending: Sending) -> None:
    sending.handle.close()
    spaceLess(sending.transport)


def test_otherTransportsSendAsTheyDo() -> None:
    transport = StringTransport()
    spaceLess(transport)
    assert transport.value() == b""
