"""
Tests for L{punchd.net.pacing}.
"""

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from punchd.net.pacing import Allowance


def test_theBurstIsThereAtOnce() -> None:
    allowance = Allowance(Clock(), 1.0, 3.0)
    assert [allowance.take() for _ in range(4)] == [True, True, True, False]


def test_whatIsUsedUpComesBackAtItsRate() -> None:
    clock = Clock()
    allowance = Allowance(clock, 2.0, 1.0)
    allowance.take()
    clock.advance(0.4)
    assert not allowance.take()
    clock.advance(0.2)
    assert allowance.take()


def test_afterALongPauseThereIsOneBurstAndNoMore() -> None:
    clock = Clock()
    allowance = Allowance(clock, 10.0, 2.0)
    clock.advance(3600)
    assert [allowance.take() for _ in range(3)] == [True, True, False]


def test_whenTheClockIsPutBackNothingIsOwed() -> None:
    clock = Clock()
    clock.advance(3600)
    allowance = Allowance(clock, 10.0, 3.0)
    clock.rightNow -= 3600
    assert [allowance.take() for _ in range(4)] == [True, True, True, False]
    clock.advance(0.11)
    assert allowance.take()


def test_itIsFullAgainWhenNobodyHasUsedItForLong() -> None:
    clock = Clock()
    allowance = Allowance(clock, 1.0, 2.0)
    allowance.take()
    assert not allowance.isFull
    clock.advance(1.0)
    assert allowance.isFull


@given(
    st.integers(1, 50),
    st.integers(1, 50),
    st.lists(st.integers(0, 40), max_size=80),
)
def test_neverMoreThanTheBurstAndTheRateAllow(rate: int, burst: int, waits: list[int]) -> None:
    clock = Clock()
    allowance = Allowance(clock, rate, burst)
    taken = 0
    for eighths in waits:
        # Eighths of a second are exact in binary.
        clock.advance(eighths / 8)
        taken += allowance.take()
        assert taken <= burst + clock.seconds() * rate


@given(st.integers(1, 50), st.integers(1, 10))
def test_whoStaysWithinTheRateIsNeverRefused(rate: int, burst: int) -> None:
    clock = Clock()
    allowance = Allowance(clock, rate, burst)
    for _ in range(100):
        assert allowance.take()
        clock.advance(1.001 / rate)
