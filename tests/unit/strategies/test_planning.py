"""
Tests for L{punchd.strategies.planning}.
"""

from typing import Any

import pytest
from attrs import define, evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from zope.interface import implementer
from zope.interface.verify import verifyObject

from punchd.interfaces import IAttempt, IStrategy
from punchd.strategies.lan import Lan
from punchd.strategies.planning import LAST_DEADLINE, PREFERENCE, makePlan, preferred
from punchd.strategies.sequential import Sequential
from punchd.strategies.simultaneous import Simultaneous
from punchd.values.addresses import makeAddress
from punchd.values.nat import UNKNOWN, NatBehaviour
from punchd.values.outcomes import Outcome
from punchd.values.parties import Offer, Party, Situation
from punchd.values.plans import Consideration, PlannedAttempt
from tests.unit.values.addressing import ADDRESSES
from tests.unit.values.natting import (
    BY_ADDRESS,
    COUNTING,
    NATS,
    OPEN,
    PORT_RESTRICTED,
    RANDOM,
    RESTRICTED,
)

ALICE = Party(makeAddress("198.51.100.1", 1), Offer())
BOB = Party(makeAddress("203.0.113.2", 2), Offer())


@implementer(IStrategy)
@define
class Pretended:
    """
    A strategy that only considers.
    """

    name: str
    version: int = 1
    considered: Any = None

    def consider(self, situation: Situation) -> Consideration | None:
        if isinstance(self.considered, Exception):
            raise self.considered
        found: Consideration | None = self.considered
        return found

    def attempt(self, attempt: IAttempt) -> Deferred[Outcome]:
        raise AssertionError("a plan attempts nothing")


def installed(*strategies: IStrategy) -> dict[str, IStrategy]:
    return {strategy.name: strategy for strategy in strategies}


def situation(
    caller: tuple[tuple[str, int], ...], callee: tuple[tuple[str, int], ...] | None = None
) -> Situation:
    return Situation(
        Party(ALICE.reflexive, Offer(strategies=caller)),
        Party(BOB.reflexive, Offer(strategies=caller if callee is None else callee)),
    )


A = Pretended("a", considered=Consideration(1.0, 4.0))
B = Pretended("b", considered=Consideration(0.5, 2.0))
AB = (("a", 1), ("b", 1))


def names(plan: Any) -> list[str]:
    return [attempt.strategy for attempt in plan.attempts]


def test_thePretendedStrategyIsOne() -> None:
    verifyObject(IStrategy, A)


def test_oneStartsAfterTheOthersLead() -> None:
    plan = makePlan(situation(AB), installed(A, B))
    assert plan.attempts == (PlannedAttempt("a", 0.0, 4.0), PlannedAttempt("b", 1.0, 3.0))


def test_theCallersOrderCounts() -> None:
    plan = makePlan(situation((("b", 1), ("a", 1)), AB), installed(A, B))
    assert names(plan) == ["b", "a"]


def test_whatOnlyOneSideHasIsNotPlanned() -> None:
    assert names(makePlan(situation(AB, (("b", 1),)), installed(A, B))) == ["b"]


def test_whatIsNotInstalledIsNotPlanned() -> None:
    assert names(makePlan(situation(AB), installed(B))) == ["b"]


def test_anotherVersionIsNotPlanned() -> None:
    assert names(makePlan(situation(AB, (("a", 2), ("b", 1))), installed(A, B))) == ["b"]


def test_anotherInstalledVersionIsNotPlanned() -> None:
    newer = Pretended("a", 2, Consideration(1.0, 4.0))
    assert names(makePlan(situation(AB), installed(newer, B))) == ["b"]


def test_whatDoesNotApplyIsNotPlanned() -> None:
    nothing = Pretended("a")
    assert names(makePlan(situation(AB), installed(nothing, B))) == ["b"]


def test_whatDoesNotApplyTakesNoTime() -> None:
    plan = makePlan(situation(AB), installed(Pretended("a"), B))
    assert plan.attempts[0].start == 0.0


def test_aStrategyThatRaisesIsLeftOut(flushLoggedErrors: Any) -> None:
    broken = Pretended("a", considered=ValueError("a bug"))
    assert names(makePlan(situation(AB), installed(broken, B))) == ["b"]


def test_nothingStartsAfterTheLastDeadline() -> None:
    slow = Pretended("a", considered=Consideration(LAST_DEADLINE, 60.0))
    assert names(makePlan(situation(AB), installed(slow, B))) == ["a"]


def test_ourStrategiesComeFirstThenTheOthersByName() -> None:
    assert preferred(["z", *reversed(PREFERENCE), "a"]) == [*PREFERENCE, "a", "z"]


OURS = installed(Lan(), Simultaneous(), Sequential())
MANY = {
    **OURS,
    **installed(*(Pretended(f"s{number}", 1, Consideration(number, 9.0)) for number in range(6))),
}


def between(caller: NatBehaviour, callee: NatBehaviour) -> Situation:
    strategies = tuple((name, 1) for name in OURS)
    return Situation(
        Party(ALICE.reflexive, Offer(caller, strategies=strategies)),
        Party(BOB.reflexive, Offer(callee, strategies=strategies)),
    )


@pytest.mark.parametrize("symmetric", [RANDOM, COUNTING, BY_ADDRESS])
@pytest.mark.parametrize("other", [OPEN, RESTRICTED, UNKNOWN])
def test_aSymmetricNatIsCrossedTowardWhoDoesNotFilterPorts(
    symmetric: NatBehaviour, other: NatBehaviour
) -> None:
    assert names(makePlan(between(symmetric, other), OURS)) == ["simultaneous", "sequential"]
    assert names(makePlan(between(other, symmetric), OURS)) == ["simultaneous", "sequential"]


@pytest.mark.parametrize("symmetric", [RANDOM, COUNTING, BY_ADDRESS])
@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (PORT_RESTRICTED, "the other one filters by port, and no strategy that guesses"),
        (RANDOM, "both NATs are symmetric"),
    ],
)
def test_whatCannotWorkIsNotTriedButExplained(
    symmetric: NatBehaviour, other: NatBehaviour, reason: str
) -> None:
    for situation in (between(symmetric, other), between(other, symmetric)):
        plan = makePlan(situation, OURS)
        assert plan.attempts == ()
        assert reason in plan.reason


def test_whoOffersNothingIsTheReason() -> None:
    assert "offers no strategy" in makePlan(situation((), AB), installed(A, B)).reason


def test_whatIsPlannedNeedsNoReason() -> None:
    assert makePlan(between(PORT_RESTRICTED, PORT_RESTRICTED), OURS).reason == ""


CONSIDERATIONS = st.builds(Consideration, st.floats(0, 20), st.floats(0, 20))
OFFERED = st.lists(
    st.tuples(st.sampled_from(sorted(MANY)), st.sampled_from([1, 1, 1, 2])),
    unique_by=lambda one: one[0],
).map(tuple)
PARTIES = st.builds(
    Party,
    ADDRESSES,
    st.builds(Offer, NATS, st.lists(ADDRESSES, max_size=3).map(tuple), OFFERED),
)


@given(st.builds(Situation, PARTIES, PARTIES))
def test_bothSidesDeriveTheSamePlan(situation: Situation) -> None:
    # Strategies are asked without being told which side is here: neither order of installing them
    # nor another equal value makes a difference.
    backwards = dict(reversed(MANY.items()))
    again = evolve(situation, caller=evolve(situation.caller), callee=evolve(situation.callee))
    assert makePlan(situation, MANY) == makePlan(again, backwards)


@given(st.builds(Situation, PARTIES, PARTIES))
def test_everyPlanIsOverInTime(situation: Situation) -> None:
    plan = makePlan(situation, MANY)
    assert plan.deadline <= LAST_DEADLINE
    for attempt in plan.attempts:
        assert 0 <= attempt.start < LAST_DEADLINE
        assert attempt.start <= attempt.deadline


@given(st.lists(CONSIDERATIONS, max_size=12))
def test_whateverStrategiesWantThePlanIsBounded(considerations: list[Consideration]) -> None:
    strategies = installed(
        *(Pretended(f"s{number}", 1, one) for number, one in enumerate(considerations))
    )
    offered = tuple((name, 1) for name in strategies)
    plan = makePlan(situation(offered), strategies)
    starts = [attempt.start for attempt in plan.attempts]
    assert starts == sorted(starts)
    assert plan.deadline <= LAST_DEADLINE
    assert len(set(names(plan))) == len(plan.attempts)


@given(OFFERED)
def test_aStrategyOfferedTwiceIsPlannedOnce(offered: tuple[tuple[str, int], ...]) -> None:
    plan = makePlan(situation((*offered, *offered)), MANY)
    assert len(set(names(plan))) == len(plan.attempts)
