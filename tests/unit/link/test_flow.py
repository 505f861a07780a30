"""
Tests for L{punchd.link.flow}.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from punchd.errors import ProtocolViolation
from punchd.link.flow import ABSURD, EARLY, Budget, Credit, Limits, Window

LIMITS = Limits(buffered=10 * EARLY + 1_000_000, streams=10, firstWindow=50_000, mostWindow=400_000)


def makeWindow(budget: Budget | None = None, limits: Limits = LIMITS) -> Window:
    return Window(budget or Budget.of(limits), limits)


def test_beforeItIsOpenAWindowGrantsLittle() -> None:
    window = makeWindow()
    window.receive(EARLY)
    with pytest.raises(ProtocolViolation, match="1 bytes past"):
        window.receive(1)


def test_openingGrantsTheFirstWindow() -> None:
    window = makeWindow()
    assert window.open(0.0) == LIMITS.firstWindow


@pytest.mark.parametrize(
    ("left", "granted"),
    [(16 * 50_000, 50_000), (16 * 10_000, 25_000), (16 * 8_000, EARLY), (0, EARLY)],
)
def test_whereThereIsLittleLeftTheFirstWindowIsSmaller(left: int, granted: int) -> None:
    budget = Budget(left)
    assert makeWindow(budget).open(0.0) == granted
    assert budget.take(left - (granted - EARLY), 1)
    assert not budget.take(1, 1)


def test_moreIsGrantedWhenHalfWasRead() -> None:
    window = makeWindow()
    window.open(0.0)
    window.receive(30_000)
    assert not window.consume(24_999)
    assert window.consume(1)
    assert window.grant(100.0, 0.1) == 25_000 + 50_000


@pytest.mark.parametrize(
    ("seconds", "roundTrip", "grows"),
    [(0.3, 0.1, True), (0.31, 0.1, False), (0.3, None, True), (0.005, 0.0001, True)],
)
def test_aWindowDoublesWhenItWasReadWithinThreeRoundTrips(
    seconds: float, roundTrip: float | None, grows: bool
) -> None:
    window = makeWindow()
    window.open(0.0)
    window.receive(50_000)
    window.consume(50_000)
    window.grant(seconds, roundTrip)
    assert window.size == (100_000 if grows else 50_000)


def test_halfAWindowTellsIt() -> None:
    window = makeWindow()
    window.open(0.0)
    window.receive(25_000)
    window.consume(25_000)
    window.grant(0.15, 0.1)
    assert window.size == 100_000


@pytest.mark.parametrize("oneWay", [0.005, 0.05, 0.3])
@pytest.mark.parametrize("first", range(1, 16))
def test_aSenderIsNotHeldUpForLongHoweverItBegins(first: int, oneWay: float) -> None:
    # TCP brings the first window in two parts, a round trip apart: at some sizes the halves that
    # are granted then depend on each other for ever.
    limits = Limits()
    window, credit = makeWindow(limits=limits), Credit(0)
    # What is under way: when it is there, how many bytes.
    arriving: list[tuple[float, int]] = []
    granted: list[tuple[float, int]] = [(oneWay, window.open(0.0))]
    at, part = 0.0, limits.firstWindow * first // 16
    while at < 24 * oneWay:
        at, kind, number = min(
            [(when, 0, limit) for when, limit in granted]
            + [(when, 1, length) for when, length in arriving]
        )
        if kind == 0:
            granted.remove((at, number))
            credit.extend(number)
            length = credit.left
            if credit.sent == 0:
                arriving += [(at + oneWay, part), (at + 3 * oneWay, length - part)]
            else:
                arriving.append((at + oneWay, length))
            credit.sent += length
        else:
            arriving.remove((at, number))
            while number:
                piece = min(number, 16_000)
                number -= piece
                window.receive(piece)
                if window.consume(piece):
                    # The processes take a little time.
                    granted.append((at + oneWay * 1.05, window.grant(at, 2 * oneWay)))
    assert window.size >= 16 * limits.firstWindow


def test_aWindowGrowsNoFurtherThanItMay() -> None:
    window = makeWindow()
    window.open(0.0)
    for _ in range(20):
        length = window.granted - window.received
        window.receive(length)
        window.consume(length)
        window.grant(0.0, 0.1)
    assert window.size == LIMITS.mostWindow


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 10**6)), max_size=100))
def test_togetherWindowsNeverGrantMoreThanTheLimit(reads: list[tuple[int, int]]) -> None:
    budget = Budget.of(LIMITS)
    windows = [makeWindow(budget) for _ in range(LIMITS.streams)]
    for window in windows:
        window.open(0.0)
    for which, most in reads:
        window = windows[which]
        before = window.granted
        length = min(most, window.granted - window.received)
        window.receive(length)
        if window.consume(length):
            assert window.grant(0.0, 0.1) >= before
        assert sum(each.granted - each.consumed for each in windows) <= LIMITS.buffered
    for window in windows:
        window.close()
    assert budget._left == Budget.of(LIMITS)._left


def test_someoneWhoComesLateStillHasSomethingToGrowInto() -> None:
    budget = Budget.of(Limits())
    left = budget._left
    for _ in range(1000):
        budget.take(256 * 1024, 16)
    assert budget._left > left // 16
    assert budget.take(budget._left // 2, 2)


def test_creditThatShrinksIsAViolation() -> None:
    credit = Credit(100)
    credit.extend(100)
    with pytest.raises(ProtocolViolation, match="shrinks from 100 to 99"):
        credit.extend(99)


def test_absurdCreditIsAViolation() -> None:
    credit = Credit(100)
    credit.extend(ABSURD)
    with pytest.raises(ProtocolViolation, match="credit for"):
        credit.extend(ABSURD + 1)
