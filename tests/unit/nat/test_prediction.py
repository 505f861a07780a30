"""
Tests for L{punchd.nat.prediction}.
"""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as some

from punchd.nat.prediction import (
    FIRST_PORT,
    LAST_PORT,
    Sighting,
    following,
    reach,
    traffic,
)

PORTS = some.integers(FIRST_PORT, LAST_PORT)
DELTAS = some.integers(-256, 256).filter(bool)
WIDTHS = some.integers(8, 256)


def test_theNextPortsFollow() -> None:
    assert following(20000, 1, 1, 3) == (20001, 20002, 20003)


def test_aWindowMayBeginLater() -> None:
    assert following(20000, 2, 5, 2) == (20010, 20012)


def test_aNatMayCountDownwards() -> None:
    assert following(20000, -1, 1, 2) == (19999, 19998)


def test_behindTheLastPortComesTheFirst() -> None:
    assert following(LAST_PORT - 1, 1, 1, 3) == (LAST_PORT, FIRST_PORT, FIRST_PORT + 1)


@given(PORTS, DELTAS, some.integers(1, 70000), WIDTHS)
def test_predictedPortsArePorts(port: int, delta: int, first: int, count: int) -> None:
    ports = following(port, delta, first, count)
    assert len(ports) == count
    assert all(FIRST_PORT <= one <= LAST_PORT for one in ports)


@given(PORTS, DELTAS, some.integers(1, 500), some.integers(1, 500))
def test_aMappingAfterAMappingIsOneAfterBoth(port: int, delta: int, one: int, two: int) -> None:
    (between,) = following(port, delta, one, 1)
    assert following(between, delta, two, 1) == following(port, delta, one + two, 1)


def test_aSingleSightingSaysNothingOfOthers() -> None:
    assert traffic([Sighting(20000, 0.0)], 1) == 0.0


def test_whatWeHaveNotMadeOthersHave() -> None:
    # 65 of our own, 10 of others, in half a second.
    assert traffic([Sighting(20000, 1.0), Sighting(20075, 1.5, own=65)], 1) == 20.0


def test_theTrafficIsTheAverageOfAllSightings() -> None:
    seen = [Sighting(20000, 0.0), Sighting(20011, 1.0), Sighting(20042, 2.0)]
    assert traffic(seen, 1) == 20.0


@pytest.mark.parametrize(
    "after",
    [Sighting(19000, 1.5), Sighting(20075, 1.5), Sighting(20002, 1.5, own=2), Sighting(20004, 1.0)],
    ids=["began again", "is no multiple", "fewer than our own", "no time between"],
)
def test_aNatThatHasJumpedSaysNothingOfOthers(after: Sighting) -> None:
    assert traffic([Sighting(20000, 1.0), after], 2) == 0.0


def test_withoutTrafficTheWindowBeginsWithTheNextMapping() -> None:
    assert reach([Sighting(20000, 0.0)], 1, 0.2, 64) == 64


def test_muchTrafficMovesTheWindow() -> None:
    # 1,000 a second: in 0.2 s about 200.
    seen = [Sighting(20000, 0.0), Sighting(21001, 1.0)]
    ahead = reach(seen, 1, 0.2, 64)
    assert ahead - 64 < 200 < ahead


@given(some.lists(some.tuples(PORTS, some.floats(0, 100)), min_size=1), DELTAS, WIDTHS)
def test_theWindowIsAlwaysAhead(seen: list[tuple[int, float]], delta: int, width: int) -> None:
    """
    Whatever a server says: the window has room for as many mappings, none of which is past.
    """
    sightings = [Sighting(port, at) for port, at in seen]
    assert reach(sightings, delta, 0.5, width) >= width


def poisson(random: Random, rate: float, seconds: float) -> int:
    number, at = 0, random.expovariate(rate) if rate else seconds
    while at < seconds:
        number, at = number + 1, at + random.expovariate(rate)
    return number


@given(
    PORTS,
    some.integers(1, 8),
    some.floats(0, 400),
    some.floats(0.02, 0.5),
    some.randoms(use_true_random=False),
)
def test_aBurstGoesOverTheWindowsEnd(
    port: int, delta: int, rate: float, seconds: float, random: Random
) -> None:
    """
    In the second round, when the traffic is known: the port that the other side dials is one that
    a burst as wide as the window gets, unless chance is farther from its mean than the window's
    half.
    """
    width, own = 128, 65
    others = poisson(random, rate, 0.6)
    (now,) = following(port, delta, others + own, 1)
    seen = [Sighting(port, 0.0), Sighting(now, 0.6, own)]
    ahead = reach(seen, delta, seconds, width)
    shift = 1 + poisson(random, rate, seconds)
    expected = 1 + traffic(seen, delta) * seconds
    if abs(shift - expected) < width / 2 - 1 and now > port:
        burst = following(now, delta, shift, width)
        assert following(now, delta, ahead, 1)[0] in burst
