"""
Tests for L{punchd.link.turns}.
"""

from collections import Counter
from typing import Any

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from punchd.link.turns import Turns

MOST = 1000
"""Bytes of a turn in these tests, at most."""

SIZES = st.integers(1, MOST)


@define(eq=False)
class Sending:
    """
    A stream, as far as L{Turns} knows it.

    @ivar size: bytes that it sends in a turn.
    """

    size: int = MOST
    sentInRounds: int = field(default=0, init=False)


def waiting(*streams: Sending) -> Any:
    turns: Any = Turns()
    for stream in streams:
        turns.add(stream, stream.size)
    return turns


def send(turns: Any) -> Sending:
    """
    Let the next one send, which then has more.
    """
    stream: Sending = turns.begin()
    turns.end(stream, stream.size)
    turns.add(stream, stream.size)
    return stream


def sent(turns: Any, count: int) -> Counter[Sending]:
    """
    The bytes that each sends in so many turns.
    """
    had = Counter[Sending]()
    for _ in range(count):
        stream = send(turns)
        had[stream] += stream.size
    return had


def test_thoseWhoSendAsMuchComeOneAfterTheOther() -> None:
    streams = [Sending() for _ in range(3)]
    turns = waiting(*streams)
    assert [send(turns) for _ in range(6)] == streams * 2


def test_theFirstOfSomeOvertakesTheOthers() -> None:
    small, middle, large = (Sending(size) for size in (1, 10, 100))
    turns = waiting(large, small, middle)
    assert turns.beginOf(lambda stream: stream.size > 1) is middle
    assert turns.beginOf(lambda stream: stream.size == 10) is None
    assert [turns.begin(), turns.begin()] == [small, large]
    assert not turns


def test_nobodyWaits() -> None:
    turns = waiting()
    assert not turns
    with pytest.raises(IndexError):
        turns.begin()
    turns.add(Sending(), 1)
    assert turns
    turns.clear()
    assert not turns


@given(st.integers(1, 50), st.integers(0, 200))
def test_whoHasARequestIsNextButForThoseWhoAreAlmostDone(others: int, before: int) -> None:
    turns = waiting(*(Sending() for _ in range(others)))
    sent(turns, before)
    asking = Sending(64)
    turns.add(asking, 64)
    waited = 0
    while send(turns) is not asking:
        waited += 1
    assert waited <= 1 + others * 64 / MOST


@given(st.integers(1, 50), st.integers(0, 200))
def test_whoHasOneRequestAfterTheOtherWaitsWhenARoundEnds(others: int, before: int) -> None:
    turns, asking = waiting(*(Sending() for _ in range(others))), Sending(64)
    sent(turns, before)
    waited = 0
    for _ in range(100):
        turns.add(asking, 64)
        while (stream := turns.begin()) is not asking:
            turns.end(stream, MOST)
            turns.add(stream, MOST)
            waited += 1
        turns.end(asking, 64)
        # What comes between one answer and the next request.
        send(turns)
    # It may send as much as each of the others.
    rounds = 100 / others + 1
    assert waited <= 100 * 64 / MOST * others + rounds * 2


@given(st.lists(SIZES, min_size=2, max_size=20))
def test_thoseWhoSendAsMuchAsTheyCanGetTheSame(sizes: list[int]) -> None:
    streams = [Sending(size) for size in sizes]
    had = sent(waiting(*streams), 2000)
    assert max(had.values()) - min(had[stream] for stream in streams) <= 2 * MOST


@given(SIZES, st.integers(1, 20))
def test_whoIsMissingNowAndThenGetsNoMoreThanOthers(size: int, others: int) -> None:
    bulk = [Sending() for _ in range(others)]
    turns, small = waiting(*bulk), Sending(size)
    had = Counter[Sending]()
    for _ in range(2000):
        turns.add(small, size)
        while (stream := turns.begin()) is not small:
            turns.end(stream, MOST)
            turns.add(stream, MOST)
            had[stream] += MOST
        # It has more only when its turn is over.
        turns.end(small, size)
        had[small] += size
    assert had[small] <= max(had[one] for one in bulk) * 1.1 + 2 * MOST


@given(SIZES, st.integers(1, 20))
def test_aCrowdOfNewOnesHoldsUpNobodyForEver(size: int, others: int) -> None:
    bulk = [Sending() for _ in range(others)]
    turns, had = waiting(*bulk), Counter[Sending]()
    total = 0
    while total < 100 * MOST * (others + 2):
        stream = Sending(size)
        turns.add(stream, size)
        while (one := turns.begin()) is not stream:
            turns.end(one, MOST)
            turns.add(one, MOST)
            had[one] += MOST
            total += MOST
        turns.end(stream, size)
        total += size
    # They get as much as two of those would who always have something to send.
    assert min(had[one] for one in bulk) >= 90 * MOST


def test_whoHadNothingForLongHasNoMoreDue() -> None:
    one, other = Sending(), Sending()
    turns = waiting(one)
    sent(turns, 100)
    turns.add(other, MOST)
    assert sent(turns, 6) == {one: 3 * MOST, other: 3 * MOST}
