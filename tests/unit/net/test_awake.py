"""
Tests for L{punchd.net.awake}.
"""

from typing import Any

import pytest
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock

from punchd.net.awake import ENOUGH, LATE, LITTLE, MOST, SOON, Awake

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


def come(clock: Turning, awake: Awake, times: int, after: float = SOON / 2) -> None:
    for _ in range(times):
        clock.advance(after)
        awake.came(64)


def test_whatComesSoonIsAwaitedWithoutSleeping(clock: Turning) -> None:
    awake = Awake(clock)
    come(clock, awake, ENOUGH)
    assert not clock.isAwake()
    come(clock, awake, 1)
    assert clock.isAwake()
    clock.pump([TURN] * round(0.9 * SOON / TURN))
    assert clock.isAwake()


def test_whoWaitsInVainSleeps(clock: Turning) -> None:
    awake = Awake(clock)
    come(clock, awake, ENOUGH + 1)
    clock.pump([TURN] * round(1.1 * SOON / TURN))
    assert not clock.isAwake()
    # But one that is late is no reason to sleep from now on.
    come(clock, awake, MOST)
    come(clock, awake, 1, 2 * SOON)
    assert clock.isAwake()


def test_nobodyStaysAwakeForWhatComesLate(clock: Turning) -> None:
    awake = Awake(clock)
    come(clock, awake, 100, 1.1 * SOON)
    assert not clock.isAwake()


def test_norForWhatIsMostlyLate(clock: Turning) -> None:
    awake = Awake(clock)
    for _ in range(100):
        come(clock, awake, LATE - 1)
        assert not clock.isAwake()
        come(clock, awake, 1, 2 * SOON)


def test_norBesideMuchData(clock: Turning) -> None:
    awake = Awake(clock)
    come(clock, awake, MOST)
    assert clock.isAwake()
    awake.came(LITTLE + 1)
    clock.advance(TURN)
    assert not clock.isAwake()


def test_whenTheClockIsPutBackNobodyStaysAwakeForThatLong(clock: Turning) -> None:
    awake = Awake(clock)
    clock.advance(3600)
    come(clock, awake, MOST)
    clock.rightNow -= 3600
    (looking,) = clock.getDelayedCalls()
    looking.reset(0)
    clock.advance(TURN)
    assert not clock.isAwake()
