"""
Tests for L{punchd.peer.pace}: how soon a better path is looked for.
"""

from random import Random

import pytest

from punchd.errors import Limited
from punchd.peer.pace import (
    BROKEN_BEFORE,
    DIRECT_WAITS,
    LIMITED_WAITS,
    LOST_WAITS,
    MOST_FLAPS,
    MOST_IN_VAIN,
    PROVEN_AFTER,
    WORTH,
    YIELDING,
    Pace,
)


@pytest.fixture
def pace() -> Pace:
    return Pace(Random(1), True)


def live(pace: Pace, seconds: float, isDirect: bool = True, carrying: int = 0) -> None:
    """
    Let a path come, and go.
    """
    pace.changed(True, isDirect, 100.0, 100)
    pace.changed(False, False, 100.0 + seconds, 100 + carrying)


def test_whoHasMadeTheLinkDialsAtOnce(pace: Pace) -> None:
    assert pace.wait(isConnected=False, isWantedNow=False) == 0


def test_theOtherEndYieldsUnlessSomebodyWaits() -> None:
    pace = Pace(Random(1), False)
    assert pace.wait(isConnected=False, isWantedNow=False) == YIELDING
    assert pace.wait(isConnected=False, isWantedNow=True) == 0


def test_onlyWhoHasMadeTheLinkLooksForADirectPath(pace: Pace) -> None:
    wait = pace.wait(isConnected=True, isWantedNow=False)
    assert wait is not None
    assert wait >= DIRECT_WAITS[0]
    assert Pace(Random(1), False).wait(isConnected=True, isWantedNow=True) is None


def test_waitsGrowUpToTheLongest(pace: Pace) -> None:
    waits = []
    for isConnected, longest in ((False, LOST_WAITS[1]), (True, DIRECT_WAITS[1])):
        for _ in range(200):
            pace.attempt(isLost=not isConnected)
            wait = pace.wait(isConnected, False)
            assert wait is not None
            waits.append(wait)
        assert longest <= waits[-1] <= longest + 0.5


def test_aPathThatWasAnyGoodEndsTheWaiting(pace: Pace) -> None:
    pace.attempt(isLost=True)
    live(pace, BROKEN_BEFORE - 0.1)
    assert pace.wait(False, False) != 0
    live(pace, BROKEN_BEFORE)
    assert pace.wait(False, False) == 0


def test_soDoesOneThatHasCarriedSomething(pace: Pace) -> None:
    pace.attempt(isLost=True)
    live(pace, BROKEN_BEFORE - 0.1, carrying=WORTH - 1)
    assert pace.wait(False, False) != 0
    live(pace, BROKEN_BEFORE - 0.1, carrying=WORTH)
    assert pace.wait(False, False) == 0


def test_directPathsThatDoNotLastAreFlapping(pace: Pace) -> None:
    told = []
    for _ in range(MOST_FLAPS):
        told.append(pace.isFlapping)
        live(pace, PROVEN_AFTER - 0.1)
    told.append(pace.isFlapping)
    live(pace, PROVEN_AFTER, isDirect=False)
    told.append(pace.isFlapping)
    assert told == [False] * MOST_FLAPS + [True, False]


def test_relayedPathsThatDoNotLastAreNot(pace: Pace) -> None:
    for _ in range(MOST_FLAPS + 1):
        live(pace, 1, isDirect=False)
    assert not pace.isFlapping


def test_fallingBackToTheRelayCountsAsLosingTheDirectPath(pace: Pace) -> None:
    for _ in range(MOST_FLAPS):
        assert not pace.changed(True, False, 1.0, 0)
        assert not pace.changed(True, True, 2.0, 0)
        assert pace.changed(True, False, 3.0, 0)
    assert pace.isFlapping


def test_movingToTheDirectPathIsNoLoss(pace: Pace) -> None:
    pace.attempt(isLost=False)
    pace.changed(True, False, 0.0, 0)
    pace.changed(True, True, PROVEN_AFTER + 1, 0)
    pace.changed(False, False, PROVEN_AFTER + 2, 0)
    wait = pace.wait(True, False)
    assert wait is not None
    assert wait > DIRECT_WAITS[0] * 1.5


@pytest.mark.parametrize("forget", [Pace.forgive, Pace.reset])
def test_flapsAreForgotten(pace: Pace, forget: object) -> None:
    for _ in range(MOST_FLAPS):
        live(pace, 1)
    assert callable(forget)
    forget(pace)
    assert not pace.isFlapping


def limited(pace: Pace, seconds: float) -> float:
    """
    An attempt for a lost link comes to nothing, as the relay has reached a limit.

    @return: how long it waits.
    """
    pace.attempt(isLost=True)
    pace.noDirect()
    pace.limited(Limited("enough", seconds))
    wait = pace.wait(isConnected=False, isWantedNow=False)
    assert wait is not None
    return wait


def test_aRelayThatHasReachedALimitIsAskedMoreRarely(pace: Pace) -> None:
    waits = [limited(pace, 86_400) for _ in range(20)]
    assert LIMITED_WAITS[0] <= waits[0]
    assert waits[-1] >= LIMITED_WAITS[1]


def test_aLimitThatIsOverSoonIsNotWaitedForAnyLonger(pace: Pace) -> None:
    for _ in range(20):
        wait = limited(pace, 10)
        assert LOST_WAITS[0] <= wait <= 10.5
    assert wait >= 10


def test_aLimitThatIsOverNowIsNoReasonToAskAllTheTime(pace: Pace) -> None:
    assert [limited(pace, 0) >= LOST_WAITS[1] for _ in range(10)][-1]


def test_aLimitIsToldOnceUntilThereIsAPath(pace: Pace) -> None:
    limit = Limited("enough", 10)
    told = [pace.limited(limit), pace.limited(limit), pace.limited(None), pace.limited(limit)]
    pace.changed(True, False, 1.0, 0)
    told.append(pace.limited(limit))
    assert told == [True, False, False, False, True]


def test_aLinkIsHopelessWhenPunchesFailAndTheRelayWillNotHelpInTime(pace: Pace) -> None:
    told = []
    for _ in range(MOST_IN_VAIN):
        told.append(pace.isHopeless(600))
        limited(pace, 601)
    told.append(pace.isHopeless(600))
    told.append(pace.isHopeless(602))
    assert told == [False] * MOST_IN_VAIN + [True, False]


def test_aLinkThatHadADirectPathIsNotHopelessAtOnce(pace: Pace) -> None:
    for isDirect, isHopeless in ((True, False), (False, True)):
        for _ in range(MOST_IN_VAIN):
            pace.noDirect()
        live(pace, PROVEN_AFTER, isDirect)
        limited(pace, 601)
        assert pace.isHopeless(600) is isHopeless
    pace.limited(None)
    assert not pace.isHopeless(600)


def test_attemptsThatDoNotPunchSayNothingOfPunches(pace: Pace) -> None:
    for _ in range(MOST_FLAPS):
        live(pace, PROVEN_AFTER - 0.1)
    for _ in range(MOST_IN_VAIN):
        pace.noDirect()
    pace.limited(Limited("enough", 601))
    assert not pace.isHopeless(600)
