"""
Tests for C{direct} and C{ipv6}, with attempts that only remember.
"""

from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from punchd.errors import Unreachable
from punchd.interfaces import IStrategy
from punchd.strategies.direct import LEAD, Direct
from punchd.strategies.ipv6 import IPv6
from punchd.strategies.planning import makePlan
from punchd.strategies.simultaneous import Simultaneous
from punchd.values.addresses import Address, makeAddress
from punchd.values.nat import Filtering, Mapping, NatBehaviour
from punchd.values.outcomes import Outcome, Result
from punchd.values.parties import Offer, Party, Situation
from tests.unit.strategies.test_strategies import OTHER, PUBLIC, Port, Remembering

EIM, APDM = Mapping.ENDPOINT_INDEPENDENT, Mapping.ADDRESS_AND_PORT_DEPENDENT
OPEN = NatBehaviour(EIM, Filtering.ENDPOINT_INDEPENDENT)
CONE = NatBehaviour(EIM, Filtering.ADDRESS_AND_PORT_DEPENDENT)
SYMMETRIC = NatBehaviour(APDM, Filtering.ADDRESS_AND_PORT_DEPENDENT)
UNSURE = NatBehaviour(EIM, Filtering.ADDRESS_DEPENDENT, fromOneAddress=True)

SIXTH = makeAddress("2001:db8::1", 1000)
SIXTH2 = makeAddress("2001:db8::2", 2000)


def between(caller: Offer, callee: Offer, there: Address = OTHER) -> Situation:
    return Situation(Party(PUBLIC, caller), Party(there, callee))


def nats(caller: NatBehaviour, callee: NatBehaviour) -> Situation:
    return between(Offer(nat=caller), Offer(nat=callee))


def outcomeOf(attempting: Deferred[Outcome]) -> Outcome:
    outcomes: list[Outcome] = []
    attempting.addCallback(outcomes.append)
    return outcomes[0]


@pytest.mark.parametrize("strategy", [Direct(), IPv6()], ids=lambda one: one.name)
def test_itIsAStrategy(strategy: IStrategy) -> None:
    verifyObject(IStrategy, strategy)


# direct


@pytest.mark.parametrize(
    ("caller", "callee", "lead"),
    [
        (CONE, OPEN, LEAD),
        (SYMMETRIC, OPEN, LEAD),
        (OPEN, OPEN, LEAD),
        (OPEN, SYMMETRIC, LEAD),
        # The caller would wait half a round trip longer than for SYNs that cross.
        (OPEN, CONE, 0.0),
        (OPEN, NatBehaviour(), 0.0),
    ],
)
def test_itAppliesWhereAnybodyMayDialOneSide(
    caller: NatBehaviour, callee: NatBehaviour, lead: float
) -> None:
    considered = Direct().consider(nats(caller, callee))
    assert considered is not None
    assert considered.lead == lead


@pytest.mark.parametrize("one", [CONE, SYMMETRIC, UNSURE, NatBehaviour()])
def test_itDoesNotApplyWhereNobodyKnowsThat(one: NatBehaviour) -> None:
    assert Direct().consider(nats(one, CONE)) is None
    assert Direct().consider(nats(CONE, one)) is None


def test_directNeedsOneFamily() -> None:
    assert Direct().consider(between(Offer(nat=OPEN), Offer(nat=OPEN), SIXTH2)) is None


def test_whoMayBeDialledListensWhereTheServerSawIt() -> None:
    attempt = Remembering(nats(CONE, OPEN), isCaller=False)
    Direct().attempt(attempt)
    (race,) = attempt.races
    assert (race.port, race.remotes, race.listening) == (attempt.held, [], True)


@pytest.mark.parametrize(
    ("situation", "isCaller", "remote"),
    [(nats(CONE, OPEN), True, OTHER), (nats(OPEN, SYMMETRIC), False, PUBLIC)],
    ids=["direct", "reverse"],
)
def test_theOtherDialsFromAPortOfItsOwn(
    situation: Situation, isCaller: bool, remote: Address
) -> None:
    attempt = Remembering(situation, isCaller)
    Direct().attempt(attempt)
    (race,) = attempt.races
    assert (race.port, race.remotes, race.listening) == (attempt.ordinary[0], [remote], False)


@pytest.mark.parametrize("isCaller", [True, False])
def test_whereBothMayBeDialledBothDialAndListen(isCaller: bool) -> None:
    attempt = Remembering(nats(OPEN, OPEN), isCaller)
    Direct().attempt(attempt)
    assert [(race.port, race.listening) for race in attempt.races] == [
        (attempt.held, True),
        (attempt.ordinary[0], False),
    ]


def test_theDialledOutcomeEndsTheListening() -> None:
    attempt = Remembering(nats(OPEN, OPEN), True)
    attempting = Direct().attempt(attempt)
    listening, dialling = attempt.races
    ended: list[Any] = []
    listening.outcome.addErrback(ended.append)
    dialled = Outcome("direct", Result.REFUSED, 1.0)
    dialling.outcome.callback(dialled)
    assert outcomeOf(attempting) == dialled
    assert listening.outcome.called


def test_cancellingEndsBoth() -> None:
    attempt = Remembering(nats(OPEN, OPEN), True)
    attempting = Direct().attempt(attempt)
    attempting.addErrback(lambda failure: None)
    attempting.cancel()
    assert all(race.outcome.called for race in attempt.races)


def test_withoutAPortItIsNotPossible() -> None:
    class Exhausted(Remembering):
        def ordinaryPort(self) -> Any:
            raise Unreachable("cannot take a local TCP port: too many open files")

    outcome = outcomeOf(Direct().attempt(Exhausted(nats(CONE, OPEN), True)))
    assert (outcome.result, outcome.detail) == (
        Result.NOT_POSSIBLE,
        "cannot take a local TCP port: too many open files",
    )


@pytest.mark.parametrize("callee", [OPEN, CONE, SYMMETRIC])
def test_itDelaysSimultaneousByNoMoreThanItsLead(callee: NatBehaviour) -> None:
    names = (("direct", 1), ("simultaneous", 1))
    situation = nats(OPEN, callee)
    situation = evolve(
        situation,
        caller=evolve(situation.caller, offer=Offer(nat=OPEN, strategies=names)),
        callee=evolve(situation.callee, offer=Offer(nat=callee, strategies=names)),
    )
    plan = makePlan(situation, {"direct": Direct(), "simultaneous": Simultaneous()})
    (start,) = [each.start for each in plan.attempts if each.strategy == "simultaneous"]
    assert start == (0.0 if callee is CONE else LEAD)


# ipv6


def test_ipv6WantsAnAddressOnBothSides() -> None:
    assert IPv6().consider(between(Offer(ipv6=SIXTH), Offer(ipv6=SIXTH2))) is not None
    assert IPv6().consider(between(Offer(ipv6=SIXTH), Offer())) is None
    assert IPv6().consider(between(Offer(), Offer(ipv6=SIXTH2))) is None


@pytest.mark.parametrize("host", ["fd00::1", "::1", "fe80::1", "ff02::1", "2002:c000:201::1"])
def test_ipv6WantsAGlobalOne(host: str) -> None:
    other = Offer(ipv6=makeAddress(host, 2000))
    assert IPv6().consider(between(Offer(ipv6=SIXTH), other)) is None


def test_ipv6DoesNotCareHowTheServerIsReached() -> None:
    situation = between(Offer(ipv6=SIXTH), Offer(ipv6=SIXTH2), SIXTH2)
    assert IPv6().consider(situation) is not None


@pytest.mark.parametrize(("isCaller", "remote"), [(True, SIXTH2), (False, SIXTH)])
def test_bothDialFromThePortThatTheyOfferedAndListen(isCaller: bool, remote: Address) -> None:
    attempt = Remembering(between(Offer(ipv6=SIXTH), Offer(ipv6=SIXTH2)), isCaller)
    attempt.ipv6 = Port(6666)
    IPv6().attempt(attempt)
    (race,) = attempt.races
    assert (race.port, race.remotes, race.listening) == (attempt.ipv6, [remote], True)


def test_withoutThatPortItIsNotPossible() -> None:
    attempt = Remembering(between(Offer(ipv6=SIXTH), Offer(ipv6=SIXTH2)), True)
    assert outcomeOf(IPv6().attempt(attempt)).result is Result.NOT_POSSIBLE
    assert attempt.races == []
