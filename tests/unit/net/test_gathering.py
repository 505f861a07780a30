"""
Tests for L{punchd.net.gathering}: on real sockets, with a clock of the test's own.
"""

import select
import socket
import sys
from collections.abc import Iterator

import pytest
from twisted.internet.task import Clock

from punchd.net.gathering import GATHERING, LEAST, LOOKING, MOST, MUCH, Gathering

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux is asked to gather"
)


class Connected:
    """
    A connection over loopback, one end of which gathers.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.there = socket.create_connection(listener.getsockname())
            self.here, _ = listener.accept()
        self.gathering = Gathering(self.clock, self.here)

    @property
    def gathered(self) -> int:
        return self.here.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)

    def isTold(self, seconds: float) -> bool:
        return bool(select.select([self.here], [], [], seconds)[0])

    def goFast(self) -> None:
        """
        C{MUCH} bytes every tenth of a millisecond.
        """
        for _ in range(round(LOOKING / 0.0001) + 1):
            self.gathering.read(MUCH)
            self.clock.advance(0.0001)


@pytest.fixture
def connected() -> Iterator[Connected]:
    made = Connected()
    yield made
    made.here.close()
    made.there.close()


def test_atFirstEachByteIsTold(connected: Connected) -> None:
    connected.there.sendall(b"x")
    assert connected.isTold(10)


def test_whatComesFastIsGathered(connected: Connected) -> None:
    connected.goFast()
    assert connected.gathered == MOST
    connected.there.sendall(b"x")
    assert not connected.isTold(0.05)
    connected.there.sendall(bytes(MOST))
    assert connected.isTold(10)


def test_soMuchAsComesInItsTime(connected: Connected) -> None:
    rate = 2 * LEAST / GATHERING
    connected.gathering.read(MUCH)
    connected.gathering.read(round(rate * LOOKING))
    connected.clock.advance(LOOKING)
    assert connected.gathered == 2 * LEAST


def test_afterAPauseWhatHasComeIsTold(connected: Connected) -> None:
    connected.goFast()
    connected.there.sendall(b"x")
    connected.clock.advance(LOOKING)
    connected.clock.advance(LOOKING)
    assert connected.gathered == 1
    assert connected.isTold(10)
    assert not connected.clock.getDelayedCalls()


def test_theEndIsToldAtOnce(connected: Connected) -> None:
    connected.goFast()
    connected.there.close()
    assert connected.isTold(10)


@pytest.mark.parametrize("count", [1, MUCH - 1])
def test_nobodyLooksWhereLittleComes(connected: Connected, count: int) -> None:
    connected.gathering.read(count)
    assert not connected.clock.getDelayedCalls()


def test_oneLargeReadIsNotGathered(connected: Connected) -> None:
    connected.gathering.read(MUCH)
    connected.clock.advance(LOOKING)
    assert connected.gathered == 1
    assert not connected.clock.getDelayedCalls()


def test_aConnectionThatIsGoneIsNoMatter(connected: Connected) -> None:
    connected.gathering.read(MUCH)
    connected.gathering.read(MOST * 100)
    connected.here.close()
    connected.clock.advance(LOOKING)
    connected.clock.advance(LOOKING)
    assert not connected.clock.getDelayedCalls()


def test_whileSomebodyWaitsNothingIsGathered(connected: Connected) -> None:
    connected.goFast()
    assert connected.gathered > 1
    connected.gathering.hurry(10 * LOOKING)
    assert connected.gathered == 1
    connected.goFast()
    assert connected.gathered == 1
    for _ in range(10):
        connected.goFast()
    assert connected.gathered == MOST
