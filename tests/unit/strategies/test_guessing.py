"""
Tests for the strategies that guess ports, each with an attempt that only remembers.
"""

from typing import Any

import pytest
from attrs import define, evolve, field
from hypothesis import given
from hypothesis import strategies as some
from twisted.internet.defer import CancelledError, Deferred, fail
from zope.interface.verify import verifyObject

from punchd.errors import Unreachable
from punchd.interfaces import IStrategy
from punchd.nat.prediction import following
from punchd.strategies import birthday, predicted
from punchd.strategies.birthday import HEAD_START, PAUSE, ROUND, ROUNDS, WAIT, Birthday
from punchd.strategies.predicted import FEW, WIDTHS, Predicted
from punchd.values.addresses import Address, makeAddress
from punchd.values.nat import Allocation, Filtering, Mapping, NatBehaviour, Unsolicited
from punchd.values.outcomes import Outcome, Result
from punchd.values.parties import Offer, Party, Situation
from tests.unit.strategies.test_strategies import OTHER, PUBLIC, Port, Remembering

CONE = NatBehaviour(
    Mapping.ENDPOINT_INDEPENDENT,
    Filtering.ADDRESS_AND_PORT_DEPENDENT,
    Unsolicited.DROP,
    Allocation.PRESERVING,
)
SHIFTED = evolve(CONE, allocation=Allocation.RANDOM)
RESTRICTED = evolve(CONE, filtering=Filtering.ADDRESS_DEPENDENT)
FULL = evolve(CONE, filtering=Filtering.ENDPOINT_INDEPENDENT)
RANDOM = evolve(CONE, mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, allocation=Allocation.RANDOM)
BY_ADDRESS = evolve(RANDOM, mapping=Mapping.ADDRESS_DEPENDENT)
COUNTING = evolve(RANDOM, allocation=Allocation.COUNTING, delta=2)
HALF_KNOWN = NatBehaviour(Mapping.ENDPOINT_INDEPENDENT, fromOneAddress=True)
UNKNOWN = NatBehaviour()


def situation(one: NatBehaviour, other: NatBehaviour) -> Situation:
    return Situation(Party(PUBLIC, Offer(one)), Party(OTHER, Offer(other)))


@define(eq=False)
class Begun(Remembering):
    """
    An attempt under way, and what came of it.
    """

    running: Deferred[Any] = field(factory=Deferred)
    ended: list[Any] = field(factory=list)


def begun(strategy: Any, own: NatBehaviour, other: NatBehaviour, isCaller: bool = True) -> Begun:
    """
    The attempt of a side whose NAT is C{own}.
    """
    attempt = Begun(situation(own, other) if isCaller else situation(other, own), isCaller)
    attempt.running = strategy.attempt(attempt)
    attempt.running.addBoth(attempt.ended.append)
    return attempt


def lost(attempt: Begun, number: int = -1) -> Outcome:
    """
    A burst of an attempt leads to nothing.
    """
    outcome = Outcome("", Result.TIMED_OUT, 0.5)
    attempt.sprays[number][2].callback(outcome)
    return outcome


@pytest.mark.parametrize("strategy", [Predicted(), Birthday()], ids=lambda one: one.name)
def test_itIsAStrategy(strategy: IStrategy) -> None:
    verifyObject(IStrategy, strategy)


@pytest.mark.parametrize(
    ("one", "other", "applying"),
    [
        (COUNTING, CONE, {"predicted", "birthday"}),
        (COUNTING, UNKNOWN, {"predicted", "birthday"}),
        (COUNTING, COUNTING, {"predicted"}),
        (RANDOM, CONE, {"birthday"}),
        (RANDOM, SHIFTED, {"birthday"}),
        (BY_ADDRESS, CONE, {"birthday"}),
        (RANDOM, UNKNOWN, {"birthday"}),
        (COUNTING, RANDOM, set()),
        (RANDOM, RANDOM, set()),
        (RANDOM, FULL, set()),
        (COUNTING, RESTRICTED, set()),
        (CONE, CONE, set()),
        (SHIFTED, SHIFTED, set()),
        (UNKNOWN, UNKNOWN, set()),
        (evolve(SHIFTED, fromOneAddress=True), CONE, {"birthday"}),
        (evolve(CONE, fromOneAddress=True), CONE, set()),
        (evolve(SHIFTED, fromOneAddress=True), FULL, set()),
        (HALF_KNOWN, HALF_KNOWN, set()),
    ],
)
def test_whereTheyApply(one: NatBehaviour, other: NatBehaviour, applying: set[str]) -> None:
    for pair in (situation(one, other), situation(other, one)):
        for strategy in (Predicted(), Birthday()):
            assert (strategy.consider(pair) is not None) is (strategy.name in applying)


def test_whoHasNoNatIsNotGuessed() -> None:
    offer = Offer(evolve(SHIFTED, fromOneAddress=True), hosts=(PUBLIC,))
    pair = Situation(Party(PUBLIC, offer), Party(OTHER, Offer(CONE)))
    assert Birthday().consider(pair) is None


# birthday


def test_theSymmetricSideDialsOnePortFromManyNewOnes() -> None:
    attempt = begun(Birthday(), RANDOM, CONE)
    [(remotes, port, _)] = attempt.sprays
    assert (remotes, port) == ([OTHER] * ROUND, None)


def test_theConeSideDialsManyPortsFromItsOwn() -> None:
    attempt = begun(Birthday(), CONE, RANDOM)
    [(remotes, port, _)] = attempt.sprays
    assert port is attempt.held
    assert len(set(remotes)) == ROUND
    assert {one.host for one in remotes} == {OTHER.host}
    assert all(1024 <= one.port <= 65535 for one in remotes)


@pytest.mark.parametrize("isCaller", [True, False])
def test_eachSideTakesItsPart(isCaller: bool) -> None:
    attempt = begun(Birthday(), RANDOM, CONE, isCaller)
    assert attempt.sprays[0][1] is None


def test_noPortIsGuessedTwice() -> None:
    attempt = begun(Birthday(), CONE, RANDOM)
    attempt.clock.pump([PAUSE] * ROUNDS)
    guessed = [one.port for remotes, _, _ in attempt.sprays for one in remotes]
    assert len(guessed) == ROUNDS * ROUND == len(set(guessed))


def test_roundsFollowByTime() -> None:
    attempt = begun(Birthday(), CONE, RANDOM)
    attempt.clock.advance(PAUSE - 0.01)
    assert len(attempt.sprays) == 1
    attempt.clock.advance(0.01)
    assert len(attempt.sprays) == 2


def test_aLateRoundDoesNotDelayTheNext() -> None:
    attempt = begun(Birthday(), CONE, RANDOM)
    attempt.clock.advance(PAUSE * 1.5)
    attempt.clock.advance(PAUSE * 0.5)
    assert len(attempt.sprays) == 3


def test_noMoreThanTwoRoundsWaitAtATime() -> None:
    """
    So there are at most 512 half-open sockets, and none that repeats its SYN.
    """
    assert PAUSE < WAIT < 2 * PAUSE < 1.0
    assert 2 * ROUND <= 512
    assert ROUNDS * ROUND <= 2000


def test_theOneWhoseNatRefusesIsAhead() -> None:
    refusing = evolve(CONE, unsolicited=Unsolicited.RESET)
    symmetric = begun(Birthday(), RANDOM, refusing)
    cone = begun(Birthday(), refusing, RANDOM)
    assert (len(symmetric.sprays), len(cone.sprays)) == (0, 1)
    symmetric.clock.advance(HEAD_START)
    assert len(symmetric.sprays) == 1


def test_whereBothRefuseNobodyIsAhead() -> None:
    one, other = (evolve(nat, unsolicited=Unsolicited.ICMP) for nat in (RANDOM, CONE))
    assert [len(begun(Birthday(), *pair).sprays) for pair in ((one, other), (other, one))] == [
        1,
        1,
    ]


def test_whoMapsByAddressMayBeEitherOne() -> None:
    """
    A server with one address sees no difference: each side takes both parts, at the same cost.
    """
    maybe = evolve(SHIFTED, fromOneAddress=True)
    attempt = begun(Birthday(), maybe, maybe)
    (new, old) = attempt.sprays
    assert new[:2] == ([OTHER] * (ROUND // 2), None)
    assert (len(old[0]), old[1]) == (ROUND // 2, attempt.held)


def test_theFirstThatConnectsEndsTheRounds() -> None:
    attempt = begun(Birthday(), RANDOM, CONE)
    attempt.clock.advance(PAUSE)
    attempt.sprays[0][2].callback(Outcome("", Result.CONNECTED, 0.4))
    (outcome,) = attempt.ended
    assert (outcome.strategy, outcome.result) == ("birthday", Result.CONNECTED)
    assert outcome.seconds == PAUSE
    attempt.clock.advance(10)
    assert len(attempt.sprays) == 2
    assert attempt.clock.getDelayedCalls() == []


def test_theFirstThatConnectsEndsTheOtherRound() -> None:
    attempt = begun(Birthday(), RANDOM, CONE)
    attempt.clock.advance(PAUSE)
    attempt.sprays[0][2].callback(Outcome("", Result.CONNECTED, 0.4))
    assert attempt.sprays[1][2].called


def test_itIsOverWithItsLastRound() -> None:
    attempt = begun(Birthday(), RANDOM, CONE)
    for number in range(ROUNDS):
        assert attempt.ended == []
        lost(attempt)
        # Not the sum of all pauses, which is a little less.
        attempt.clock.advance((number + 1) * PAUSE - attempt.clock.seconds())
    (outcome,) = attempt.ended
    assert (outcome.strategy, outcome.result) == ("birthday", Result.TIMED_OUT)
    assert len(attempt.sprays) == ROUNDS


def test_allOfItFitsIntoItsPatience() -> None:
    assert (ROUNDS - 1) * PAUSE + WAIT + HEAD_START < birthday.PATIENCE


def test_cancellingLeavesNothing() -> None:
    attempt = begun(Birthday(), RANDOM, CONE)
    attempt.clock.advance(PAUSE)
    attempt.running.cancel()
    assert attempt.ended[0].check(CancelledError)
    assert all(burst.called for _, _, burst in attempt.sprays)
    assert attempt.clock.getDelayedCalls() == []


def test_aBugInABurstIsTheAttempts() -> None:
    attempt = begun(Birthday(), RANDOM, CONE)
    attempt.sprays[0][2].errback(ZeroDivisionError())
    assert attempt.ended[0].check(ZeroDivisionError)


# predicted


def touched(attempt: Begun, outside: Address, number: int = -1) -> Port:
    """
    The assist service has seen a fresh port.
    """
    port = Port(1, outside)
    attempt.fresh[number].callback(port)
    return port


AT = makeAddress(PUBLIC.host, 30000)
THERE = makeAddress(OTHER.host, 40000)


def test_theCountingSideTellsWhereItsNatIs() -> None:
    attempt = begun(Predicted(), COUNTING, CONE)
    port = touched(attempt, AT)
    assert attempt.told == [(b"0 %d" % WIDTHS[0], port)]


def test_whenThatIsKnownItDialsFromAFewNewPorts() -> None:
    attempt = begun(Predicted(), COUNTING, CONE)
    attempt.telling = Deferred()
    touched(attempt, AT)
    assert attempt.sprays == []
    attempt.telling.callback(None)
    assert attempt.sprays[0][:2] == ([OTHER] * FEW, None)


def test_theOtherSideDialsTheNextPortsFromItsOwn() -> None:
    attempt = begun(Predicted(), CONE, COUNTING)
    assert attempt.sprays == []
    attempt.heard.put((b"0 64", THERE))
    [(remotes, port, _)] = attempt.sprays
    # Its NAT counts by 2.
    assert remotes == [makeAddress(OTHER.host, 40000 + 2 * step) for step in range(1, 65)]
    assert port is attempt.held
    assert attempt.fresh == []


def test_whereBothCountEachDialsOnePortFromManyNewOnes() -> None:
    attempt = begun(Predicted(), COUNTING, evolve(COUNTING, delta=3), isCaller=False)
    touched(attempt, AT)
    assert attempt.sprays == []
    attempt.heard.put((b"0 70", THERE))
    remotes = [makeAddress(OTHER.host, 40000 + 3 * 70)] * WIDTHS[0]
    assert attempt.sprays[0][:2] == (remotes, None)


@given(
    some.integers(-5, 5).filter(bool),
    some.integers(-5, 5).filter(bool),
    some.integers(0, WIDTHS[0] - 1),
    some.integers(0, WIDTHS[0] - 1),
)
def test_whereBothCountTheTwoBurstsMeet(
    ourDelta: int, theirDelta: int, ourOthers: int, theirOthers: int
) -> None:
    """
    Whatever others do on both NATs, as long as the window has room for it: one socket of each burst
    is given the port that the other burst dials.
    """
    nats = [evolve(COUNTING, delta=delta) for delta in (ourDelta, theirDelta)]
    us = begun(Predicted(), nats[0], nats[1])
    them = begun(Predicted(), nats[1], nats[0], isCaller=False)
    touched(us, AT)
    touched(them, THERE)
    us.heard.put((them.told[0][0], THERE))
    them.heard.put((us.told[0][0], AT))
    [(theirsDialled, _, _)], [(oursDialled, _, _)] = us.sprays, them.sprays
    ours = following(AT.port, ourDelta, 1 + ourOthers, len(theirsDialled))
    theirs = following(THERE.port, theirDelta, 1 + theirOthers, len(oursDialled))
    assert {one.port for one in oursDialled} & set(ours)
    assert {one.port for one in theirsDialled} & set(theirs)
    for number, remote in enumerate(theirsDialled):
        for other, back in enumerate(oursDialled):
            if remote.port == theirs[other] and back.port == ours[number]:
                return
    raise AssertionError("no socket meets another")


@given(some.integers(-5, 5).filter(bool), some.integers(0, WIDTHS[0] - FEW))
def test_whereOneCountsAllOfItsBurstIsMet(delta: int, others: int) -> None:
    us = begun(Predicted(), evolve(COUNTING, delta=delta), CONE)
    them = begun(Predicted(), CONE, evolve(COUNTING, delta=delta), isCaller=False)
    touched(us, AT)
    them.heard.put((us.told[0][0], AT))
    [(remotes, _, _)] = them.sprays
    assert set(following(AT.port, delta, 1 + others, FEW)) <= {one.port for one in remotes}


def test_aRoundThatFailedIsFollowedByAWiderOne() -> None:
    attempt = begun(Predicted(), COUNTING, CONE)
    touched(attempt, AT)
    attempt.clock.advance(predicted.PAUSE)
    port = touched(attempt, makeAddress(PUBLIC.host, 30200))
    assert attempt.told[1] == (b"1 %d" % WIDTHS[1], port)


def test_muchTrafficMovesTheNextRound() -> None:
    attempt = begun(Predicted(), COUNTING, CONE)
    attempt.clock.advance(0.1)
    touched(attempt, AT)
    attempt.clock.advance(predicted.PAUSE)
    attempt.clock.advance(0.1)
    # 1 + 4 of our own, 995 of others' in 0.45 s: some 330 in the 0.15 s until the next burst.
    touched(attempt, makeAddress(PUBLIC.host, 30000 + 2 * 1000))
    ahead = int(attempt.told[1][0].split()[1])
    assert ahead - WIDTHS[1] < 330 < ahead


def test_theOtherSidesMessageMayComeFirst() -> None:
    attempt = begun(Predicted(), COUNTING, COUNTING)
    attempt.heard.put((b"0 64", THERE))
    assert attempt.sprays == []
    touched(attempt, AT)
    assert len(attempt.sprays) == 1


@pytest.mark.parametrize(
    "message",
    [
        (b"hello", THERE),
        (b"", THERE),
        (b"0 64", None),
        (b"1 64", THERE),
        (b"0 -64", THERE),
        (b"0 9999999", THERE),
        (b"\xff" * 1024, THERE),
    ],
)
def test_whatIsNoPredictionMakesItImpossible(message: tuple[bytes, Any]) -> None:
    attempt = begun(Predicted(), CONE, COUNTING)
    attempt.heard.put(message)
    assert [outcome.result for outcome in attempt.ended] == [Result.NOT_POSSIBLE]
    assert attempt.sprays == []


def test_aFarReachIsOnlyAnotherWindow() -> None:
    attempt = begun(Predicted(), CONE, COUNTING)
    attempt.heard.put((b"0 99999", THERE))
    [(remotes, _, _)] = attempt.sprays
    assert {one.host for one in remotes} == {OTHER.host}
    assert all(1024 <= one.port <= 65535 for one in remotes)
    assert len(remotes) == WIDTHS[0]


def test_withoutAssistServiceItIsNotPossible() -> None:
    attempt = begun(Predicted(), COUNTING, CONE)
    attempt.fresh[0].errback(Unreachable("the assist service does not answer"))
    (outcome,) = attempt.ended
    assert (outcome.result, outcome.detail) == (
        Result.NOT_POSSIBLE,
        "the assist service does not answer",
    )


def test_whoCannotTellGivesUp() -> None:
    attempt = begun(Predicted(), COUNTING, CONE)
    attempt.telling = fail(Unreachable("the connection attempt.ended"))
    touched(attempt, AT)
    assert [outcome.result for outcome in attempt.ended] == [Result.NOT_POSSIBLE]
    assert attempt.sprays == []


def test_aRoundThatCannotBeAnnouncedEndsTheOneBefore() -> None:
    attempt = begun(Predicted(), COUNTING, CONE)
    touched(attempt, AT)
    attempt.clock.advance(predicted.PAUSE)
    attempt.fresh[1].errback(Unreachable("the connection attempt.ended"))
    assert [outcome.result for outcome in attempt.ended] == [Result.NOT_POSSIBLE]
    assert attempt.sprays[0][2].called


def test_theFirstThatConnectsIsTheOutcome() -> None:
    attempt = begun(Predicted(), COUNTING, CONE)
    touched(attempt, AT)
    attempt.sprays[0][2].callback(Outcome("", Result.CONNECTED, 0.1))
    (outcome,) = attempt.ended
    assert (outcome.strategy, outcome.result) == ("predicted", Result.CONNECTED)
    assert attempt.clock.getDelayedCalls() == []


def test_predictionEndsWithItsLastRound() -> None:
    attempt = begun(Predicted(), COUNTING, CONE)
    for number in range(len(WIDTHS)):
        touched(attempt, makeAddress(PUBLIC.host, 30000 + 10 * number))
        assert attempt.ended == []
        lost(attempt)
        attempt.clock.advance(predicted.PAUSE)
    (outcome,) = attempt.ended
    assert (outcome.strategy, outcome.result) == ("predicted", Result.TIMED_OUT)


def test_whenTheOtherHalfNeverSpeaksNothingIsLeft() -> None:
    attempt = begun(Predicted(), CONE, COUNTING)
    attempt.running.cancel()
    assert attempt.ended[0].check(CancelledError)
    assert attempt.clock.getDelayedCalls() == []


def test_cancellingARoundLeavesNothing() -> None:
    attempt = begun(Predicted(), COUNTING, CONE)
    touched(attempt, AT)
    attempt.clock.advance(predicted.PAUSE / 2)
    attempt.running.cancel()
    assert attempt.ended[0].check(CancelledError)
    assert attempt.sprays[0][2].called
    assert attempt.clock.getDelayedCalls() == []
