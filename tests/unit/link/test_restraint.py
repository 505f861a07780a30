"""
Tests for L{punchd.link.restraint}.
"""

import pytest
from attrs import define, field
from twisted.internet.task import Clock

from punchd.link.restraint import LATE, LONGEST, REST, Restraint

TOOK = 0.001
"""Seconds of a write in these tests."""


@define
class Writing:
    """
    Somebody who writes much, and what they are told.

    @ivar told: when they might go on.
    """

    clock: Clock = field(factory=Clock)
    told: list[float] = field(factory=list)
    restraint: Restraint = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.clock.advance(1000.0)
        self.restraint = Restraint(self.clock, self._goOn)

    def _goOn(self) -> None:
        self.told.append(self.clock.seconds())

    def write(self, seconds: float = TOOK) -> None:
        began = self.clock.seconds()
        self.clock.advance(seconds)
        self.restraint.wrote(began)


@pytest.fixture
def writing() -> Writing:
    return Writing()


def test_nobodyIsHeldBackAtFirst(writing: Writing) -> None:
    assert not writing.restraint.holds()
    assert writing.clock.getDelayedCalls() == []


def test_aWriteIsFollowedByALongerRest(writing: Writing) -> None:
    writing.write()
    due = writing.clock.seconds() + REST * TOOK - LATE
    assert writing.restraint.holds()
    assert writing.restraint.holds()
    for _ in range(200):
        writing.clock.advance(LONGEST / 200)
    # Once, however often somebody has asked.
    assert writing.told == [pytest.approx(due, abs=LONGEST / 100)]
    assert not writing.restraint.holds()


def test_inTheLongRunItIsOnePartOfTheTime(writing: Writing) -> None:
    began = writing.clock.seconds()
    for _ in range(100):
        while writing.restraint.holds():
            # A timer of whole milliseconds.
            writing.clock.advance(0.001)
        writing.write(TOOK / 3)
    parts = (writing.clock.seconds() - began) / (100 * TOOK / 3)
    assert REST - 1 < parts < REST + 2


def test_howeverLongAWriteTookTheRestIsShort(writing: Writing) -> None:
    writing.write(10.0)
    writing.clock.advance(LONGEST)
    assert not writing.restraint.holds()


def test_aClockThatIsPutBackHoldsNobody(writing: Writing) -> None:
    writing.write()
    writing.clock.rightNow -= 500.0
    assert not writing.restraint.holds()
    began = writing.clock.seconds()
    writing.clock.rightNow -= 500.0
    writing.restraint.wrote(began)
    writing.clock.advance(LONGEST)
    assert not writing.restraint.holds()


def test_aTimerFromBeforeTheClockWasPutBackIsNotWaitedFor(writing: Writing) -> None:
    writing.write()
    assert writing.restraint.holds()
    writing.clock.rightNow -= 500.0
    writing.write()
    assert writing.restraint.holds()
    writing.clock.advance(LONGEST)
    assert len(writing.told) == 1


def test_nothingIsToldAfterTheEnd(writing: Writing) -> None:
    writing.write()
    assert writing.restraint.holds()
    writing.restraint.end()
    writing.restraint.end()
    writing.clock.advance(LONGEST)
    assert writing.told == []
