"""
Tests for L{punchd.peer.discovering} and L{punchd.peer.roaming}.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from attrs import define, evolve, field
from twisted.internet.task import Clock

from punchd.errors import Unreachable
from punchd.nat.discovery import Surroundings
from punchd.nat.report import NatReport
from punchd.peer.discovering import PERIOD, RETRY, Discovering, withKnown
from punchd.values.addresses import makeAddress
from punchd.values.nat import UNKNOWN, Allocation, Filtering, Mapping, Unsolicited
from tests.unit.nat.pretending import (
    ASSISTS,
    OUTSIDE,
    ROUND_TRIP,
    SILENCE,
    PretendedInstruments,
    around,
)


@define(eq=False)
class World:
    """
    A peer's discoveries, in pretended surroundings.

    @ivar nat: what the next discoveries meet.
    @ivar surroundings: C{None} where there is no server.
    @ivar changes: what offers said, each time that it changed.
    """

    clock: Clock = field(factory=Clock)
    nat: dict[str, Any] = field(factory=dict)
    surroundings: Surroundings | None = field(factory=around)
    all: list[PretendedInstruments] = field(factory=list)
    changes: list[Any] = field(factory=list)
    steps: list[str] = field(factory=list)
    discovering: Discovering = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.discovering = Discovering(
            self.clock,
            Random(1),
            self._around,
            self._instruments,
            lambda: self.changes.append(self.discovering.behaviour),
            self.steps.append,
        )

    def _around(self) -> Surroundings:
        if self.surroundings is None:
            raise Unreachable("no server")
        return self.surroundings

    def _instruments(self, surroundings: Surroundings) -> PretendedInstruments:
        self.all.append(PretendedInstruments(self.clock, **self.nat))
        return self.all[-1]

    def advance(self, seconds: float) -> None:
        until = self.clock.seconds() + seconds
        while self.clock.seconds() < until - 0.001:
            self.clock.advance(min(0.1, until - self.clock.seconds()))

    def end(self) -> None:
        """
        Stop, and expect that nothing is left to be done.
        """
        ended: list[None] = []
        self.discovering.end().addCallback(ended.append)
        assert ended == [None]
        assert all(instruments.isClosed for instruments in self.all)
        assert self.clock.getDelayedCalls() == []


WHOLE = 6 * ROUND_TRIP + SILENCE


def test_offersSayFirstWhatIsKnownQuickly() -> None:
    world = World()
    assert world.discovering.behaviour == UNKNOWN
    world.discovering.begin()
    world.advance(3 * ROUND_TRIP)
    [quick] = world.changes
    assert (quick.mapping, quick.filtering) == (Mapping.ENDPOINT_INDEPENDENT, None)
    world.advance(WHOLE)
    [_, whole] = world.changes
    assert whole.filtering is Filtering.ADDRESS_AND_PORT_DEPENDENT
    assert len(world.steps) == 1
    assert "port-restricted cone" in world.steps[0]
    world.end()


def test_itIsRepeatedNowAndThen() -> None:
    world = World()
    world.discovering.begin()
    world.advance(WHOLE)
    assert len(world.all) == 1
    world.advance(1.25 * PERIOD + WHOLE)
    assert len(world.all) == 2
    # Nothing new is nothing to tell.
    assert len(world.changes) == 2
    world.end()


def test_whatWasKnownIsNotForgottenWhileItIsLookedAtAgain() -> None:
    world = World()
    world.discovering.begin()
    world.advance(WHOLE)
    world.discovering.begin()
    world.advance(4 * ROUND_TRIP)
    report = world.discovering.report
    assert report is not None
    assert not report.isComplete
    assert report.filtering is Filtering.ADDRESS_AND_PORT_DEPENDENT
    world.end()


def test_anotherNatIsAnotherMatter() -> None:
    world = World()
    world.discovering.begin()
    world.advance(WHOLE)
    world.nat = {"mapping": lambda inside, remote, number: makeAddress(OUTSIDE, 20000 + number)}
    world.discovering.begin()
    world.advance(4 * ROUND_TRIP)
    assert world.changes[-1].mapping is Mapping.ADDRESS_AND_PORT_DEPENDENT
    assert world.changes[-1].filtering is None
    world.end()


def test_aChangeOfAddressIsSeen() -> None:
    world = World()
    world.discovering.begin()
    world.advance(WHOLE)
    moved = "198.51.100.99"
    world.nat = {"mapping": lambda inside, remote, number: makeAddress(moved, inside)}
    world.surroundings = evolve(around(), observed=makeAddress(moved, 1))
    world.discovering.begin()
    world.advance(WHOLE)
    report = world.discovering.report
    assert report is not None
    assert report.changed is True
    assert report.before == OUTSIDE
    world.end()


def test_whatWasBeforeAnotherNetworkIsNotOffered() -> None:
    world = World()
    world.discovering.begin()
    world.advance(WHOLE)
    moved = "198.51.100.99"
    world.surroundings = evolve(around(), observed=makeAddress(moved, 1))
    world.nat = {"broken": frozenset(["show"])}
    world.discovering.begin()
    assert world.changes[-1] == UNKNOWN
    told = len(world.changes)
    world.advance(WHOLE)
    assert world.discovering.problem is not None
    assert world.discovering.behaviour == UNKNOWN
    assert len(world.changes) == told
    # The address is remembered, to tell that it is another one.
    world.nat = {"mapping": lambda inside, remote, number: makeAddress(moved, inside)}
    world.advance(1.25 * RETRY + WHOLE)
    report = world.discovering.report
    assert report is not None
    assert (report.before, report.changed) == (OUTSIDE, True)
    world.end()


def test_atTheSameNetworkAFailureForgetsNothing() -> None:
    world = World()
    world.discovering.begin()
    world.advance(WHOLE)
    known, told = world.discovering.report, len(world.changes)
    # Only the port of the connection is another one.
    world.surroundings = evolve(around(), observed=makeAddress(OUTSIDE, 1))
    world.nat = {"broken": frozenset(["show"])}
    world.discovering.begin()
    world.advance(WHOLE)
    assert world.discovering.problem is not None
    assert (world.discovering.report, len(world.changes)) == (known, told)
    world.end()


@pytest.mark.parametrize("seconds", [0.0, ROUND_TRIP, 2 * ROUND_TRIP, 4 * ROUND_TRIP])
def test_aNewConnectionInTheMiddleBeginsAgain(seconds: float) -> None:
    world = World()
    world.discovering.begin()
    world.advance(seconds)
    told = len(world.changes)
    world.discovering.end()
    world.advance(WHOLE)
    assert len(world.changes) == told
    assert world.all[0].isClosed
    world.discovering.begin()
    world.advance(WHOLE)
    assert world.discovering.report is not None
    assert world.discovering.report.isComplete
    assert len(world.all) == 2
    world.end()


@pytest.mark.parametrize("broken", ["prepare", "show"])
def test_aFailureIsOneLine(broken: str) -> None:
    world = World(nat={"broken": frozenset([broken])})
    world.discovering.begin()
    world.advance(WHOLE)
    assert world.changes == []
    assert len(world.steps) == 1
    assert str(world.discovering.problem) in world.steps[0]
    world.nat = {}
    world.advance(1.25 * RETRY + WHOLE)
    assert world.discovering.problem is None
    assert world.discovering.behaviour.mapping is Mapping.ENDPOINT_INDEPENDENT
    world.end()


def test_withoutAServerItIsOneLineToo() -> None:
    world = World(surroundings=None)
    world.discovering.begin()
    assert len(world.steps) == 1
    assert world.discovering.whenFound().called
    world.end()


def test_contradictionsAreLinesOfTheirOwn() -> None:
    world = World(
        nat={
            "mapping": lambda inside, remote, number: makeAddress(
                OUTSIDE if remote == ASSISTS[0] else "198.51.100.8", inside
            )
        }
    )
    world.discovering.begin()
    world.advance(WHOLE)
    assert len(world.steps) == 2
    assert "several addresses" in world.steps[1]
    world.end()


def test_whoWaitsHearsOfTheEnd() -> None:
    world = World()
    world.discovering.begin()
    heard: list[None] = []
    world.discovering.whenFound().addCallback(heard.append)
    world.advance(4 * ROUND_TRIP)
    assert heard == []
    world.advance(WHOLE)
    assert heard == [None]
    assert world.discovering.whenFound().called
    world.end()


def test_whoWaitsAndGivesUpIsForgotten() -> None:
    world = World()
    world.discovering.begin()
    waiting = world.discovering.whenFound()
    waiting.addErrback(lambda failure: None)
    waiting.cancel()
    world.advance(WHOLE)
    world.end()


QUICK = NatReport(
    address=OUTSIDE,
    mapping=Mapping.ENDPOINT_INDEPENDENT,
    allocation=Allocation.PRESERVING,
)
KNOWN = evolve(
    QUICK,
    filtering=Filtering.ADDRESS_DEPENDENT,
    unsolicited=Unsolicited.DROP,
    hairpin=True,
    isComplete=True,
)


def test_onlyTheSameNatIsKnown() -> None:
    assert withKnown(QUICK, None) == QUICK
    assert withKnown(QUICK, KNOWN).filtering is Filtering.ADDRESS_DEPENDENT
    assert not withKnown(QUICK, KNOWN).isComplete
    other = evolve(QUICK, address="198.51.100.9")
    assert withKnown(other, KNOWN) == other
    assert withKnown(evolve(QUICK, isComplete=True), KNOWN).filtering is None
