"""
Tests for L{punchd.net.awake}.
"""

from typing import Any

import pytest
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock

from punchd.net.awake import ENOUGH, LITTLE, MOST, OTHER, SOON, Awake

#: Seconds of one turn of the reactor.
TURN = 0.00001


class Turning(Clock):
    """
    A clock on which each call takes a turn of the reactor.
    """

    def callLater(self, delay: float, callable: Any, *args: Any, **kw: Any) -> IDelayedCall:
        return super().callLater(delay + TURN, callable, *args, **kw)

    def isAwake(self) -> bool:
        return bool(self.getDelayedCalls())


@pytest.fixture
def clock() -> Turning:
    return Turning()


class Talk:
    """
    Requests and answers through one splice.
    """

    def __init__(self, clock: Turning) -> None:
        self.clock = clock
        self.awake = Awake(clock)
        self.ends = "client", "service"

    def turn(self) -> None:
        self.ends = self.ends[1], self.ends[0]

    def come(self, times: int, after: float = SOON / 2, length: int = 64) -> None:
        for _ in range(times):
            self.clock.advance(after)
            self.awake.came(*self.ends, length)
            self.turn()


def test_whatComesSoonIsAwaitedWithoutSleeping(clock: Turning) -> None:
    talk = Talk(clock)
    talk.come(ENOUGH)
    assert not clock.isAwake()
    talk.come(1)
    assert clock.isAwake()
    clock.pump([TURN] * round(0.9 * SOON / TURN))
    assert clock.isAwake()


def test_whoWaitsInVainSleeps(clock: Turning) -> None:
    talk = Talk(clock)
    talk.come(ENOUGH + 1)
    clock.pump([TURN] * round(1.1 * SOON / TURN))
    assert not clock.isAwake()
    # But one that is late is no reason to sleep from now on.
    talk.come(MOST)
    talk.come(1, 2 * SOON)
    assert clock.isAwake()


def test_nobodyStaysAwakeForWhatComesLate(clock: Turning) -> None:
    talk = Talk(clock)
    talk.come(100, 1.1 * SOON)
    assert not clock.isAwake()


def test_norForWhatIsMostlyLate(clock: Turning) -> None:
    talk = Talk(clock)
    for _ in range(100):
        talk.come(OTHER - 1)
        assert not clock.isAwake()
        talk.come(1, 2 * SOON)


def test_norForWhatGoesOneWay(clock: Turning) -> None:
    talk = Talk(clock)
    for _ in range(100):
        talk.come(1)
        talk.turn()
    assert not clock.isAwake()


def test_norForMuchData(clock: Turning) -> None:
    talk = Talk(clock)
    talk.come(100, length=LITTLE + 1)
    assert not clock.isAwake()


def test_butBesideItTheyDo(clock: Turning) -> None:
    talk = Talk(clock)
    for _ in range(ENOUGH + 1):
        talk.come(1)
        talk.awake.came("source", "sink", LITTLE + 1)
    assert clock.isAwake()


def test_whenTheClockIsPutBackNobodyStaysAwakeForThatLong(clock: Turning) -> None:
    talk = Talk(clock)
    clock.advance(3600)
    talk.come(MOST)
    clock.rightNow -= 3600
    (looking,) = clock.getDelayedCalls()
    looking.reset(0)
    clock.advance(TURN)
    assert not clock.isAwake()
