"""
Tests for L{punchd.strategies.mapped}.
"""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred
from zope.interface.verify import verifyObject

from punchd.interfaces import IStrategy
from punchd.strategies.mapped import RETRIES, Mapped, leasedTo
from punchd.values.addresses import makeAddress
from punchd.values.outcomes import Outcome, Result
from punchd.values.parties import Offer, Party, Situation
from tests.unit.strategies.test_strategies import OTHER, PUBLIC, Port, Remembering, between

LEASED = makeAddress(PUBLIC.host, 40000)
LEASED2 = makeAddress(OTHER.host, 50000)
FORGED = makeAddress("192.0.2.66", 22)
PRIVATE = makeAddress("192.168.1.1", 22)

WITH = Offer(mapped=(LEASED,))
WITH2 = Offer(mapped=(LEASED2,))
NONE = Offer()

FAILED = Outcome("mapped", Result.TIMED_OUT, 1.0)
CONNECTED = Outcome("mapped", Result.CONNECTED, 0.1)


def run(attempt: Remembering) -> list[object]:
    """
    Attempt it; will hold the result.
    """
    results: list[object] = []
    running: Deferred[Outcome] = Mapped().attempt(attempt)
    running.addBoth(results.append)
    return results


def test_itIsAStrategy() -> None:
    assert verifyObject(IStrategy, Mapped())


@pytest.mark.parametrize(("one", "two"), [(WITH, NONE), (NONE, WITH2), (WITH, WITH2)])
def test_itAppliesIfEitherSideHasALease(one: Offer, two: Offer) -> None:
    assert Mapped().consider(Situation(Party(PUBLIC, one), Party(OTHER, two))) is not None


@pytest.mark.parametrize("forged", [FORGED, PRIVATE, LEASED2])
def test_anAddressOfAnotherHostIsNoLease(forged: object) -> None:
    offer = Offer(mapped=(forged,))  # type: ignore[arg-type]
    assert Mapped().consider(Situation(Party(PUBLIC, offer), Party(OTHER, NONE))) is None
    assert leasedTo(Party(PUBLIC, offer)) == []


def test_itDoesNotApplyWithoutALease() -> None:
    assert Mapped().consider(Situation(Party(PUBLIC, NONE), Party(OTHER, NONE))) is None


@pytest.mark.parametrize("isCaller", [True, False])
def test_theOwnerListensOnTheLeasedPortAndDialsNobody(isCaller: bool) -> None:
    offers = (WITH, NONE) if isCaller else (NONE, WITH2)
    attempt = between((PUBLIC, offers[0]), (OTHER, offers[1]), isCaller)
    attempt.leased = Port(5000)
    run(attempt)
    [race] = attempt.races
    assert (race.port, race.remotes, race.listening) == (attempt.leased, [], True)


@pytest.mark.parametrize("isCaller", [True, False])
def test_theOtherDialsFromAnOrdinaryPort(isCaller: bool) -> None:
    offers = (NONE, WITH2) if isCaller else (WITH, NONE)
    attempt = between((PUBLIC, offers[0]), (OTHER, offers[1]), isCaller)
    run(attempt)
    [race] = attempt.races
    assert race.port is attempt.ordinary[0]
    assert race.remotes == [LEASED2 if isCaller else LEASED]
    assert (race.listening, race.retries) == (False, RETRIES)


def test_forgedAddressesAreNotDialled() -> None:
    attempt = between((PUBLIC, NONE), (OTHER, Offer(mapped=(FORGED, LEASED2, PRIVATE))))
    run(attempt)
    assert attempt.races[0].remotes == [LEASED2]


def test_withLeasesOnBothSidesEachDoesBoth() -> None:
    attempt = between((PUBLIC, WITH), (OTHER, WITH2))
    attempt.leased = Port(5000)
    run(attempt)
    assert [race.listening for race in attempt.races] == [True, False]


def test_aDialThatFailsDoesNotEndTheListening() -> None:
    attempt = between((PUBLIC, WITH), (OTHER, WITH2))
    attempt.leased = Port(5000)
    results = run(attempt)
    listening, dialling = attempt.races
    dialling.outcome.callback(FAILED)
    assert results == []
    listening.outcome.callback(CONNECTED)
    assert results == [CONNECTED]


def test_aDialThatConnectsEndsTheListening() -> None:
    attempt = between((PUBLIC, WITH), (OTHER, WITH2))
    attempt.leased = Port(5000)
    results = run(attempt)
    listening, dialling = attempt.races
    dialling.outcome.callback(CONNECTED)
    assert results == [CONNECTED]
    assert listening.outcome.called


@pytest.mark.parametrize("dialFails", [False, True])
def test_whoCancelsEndsBoth(dialFails: bool) -> None:
    attempt = between((PUBLIC, WITH), (OTHER, WITH2))
    attempt.leased = Port(5000)
    running: Deferred[Outcome] = Mapped().attempt(attempt)
    listening, dialling = attempt.races
    if dialFails:
        dialling.outcome.callback(FAILED)
    running.cancel()
    failures: list[object] = []
    running.addErrback(lambda failure: failures.append(failure.check(CancelledError)))
    assert failures == [CancelledError]
    assert dialling.outcome.called
    assert listening.outcome.called


def test_aLeaseThatIsGoneMeanwhileIsAValue() -> None:
    attempt = between((PUBLIC, WITH), (OTHER, NONE))
    [outcome] = run(attempt)
    assert isinstance(outcome, Outcome)
    assert outcome.result is Result.NOT_POSSIBLE
    assert "lease is gone" in outcome.detail
