"""
Tests for L{punchd.server.observations}.
"""

import pytest
from twisted.internet.task import Clock

from punchd.errors import Refused
from punchd.server.observations import LIFETIME, MOST_PER_OWNER, Observations
from tests.unit.server.pretending import Counter, public


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def observations(clock: Clock) -> Observations:
    return Observations(clock, Counter())


def test_aTokenShownTellsItsOwnersAddress(observations: Observations) -> None:
    token = observations.issue("alice")
    observations.show(token, public(1))
    assert observations.addressFor("alice", token) == public(1)


def test_aTokenIsOfOneOwner(observations: Observations) -> None:
    token = observations.issue("alice")
    observations.show(token, public(1))
    with pytest.raises(Refused):
        observations.addressFor("mallory", token)


def test_aTokenNotShownHasNoAddress(observations: Observations) -> None:
    token = observations.issue("alice")
    with pytest.raises(Refused):
        observations.addressFor("alice", token)


def test_aTokenIsShownOnce(observations: Observations) -> None:
    token = observations.issue("alice")
    observations.show(token, public(1))
    assert observations.show(token, public(2)) is None
    assert observations.addressFor("alice", token) == public(1)


def test_anInventedTokenIsNone(observations: Observations) -> None:
    assert observations.show(bytes(16), public(1)) is None


def test_aTokenExpires(observations: Observations, clock: Clock) -> None:
    token = observations.issue("alice")
    clock.advance(LIFETIME)
    observations.sweep()
    assert observations.show(token, public(1)) is None


def test_anObservationLivesFromWhenItWasMade(observations: Observations, clock: Clock) -> None:
    token = observations.issue("alice")
    clock.advance(LIFETIME - 1)
    observation = observations.show(token, public(1))
    assert observation is not None
    observation.isOpen = False
    clock.advance(LIFETIME - 1)
    observations.sweep()
    assert observations.addressFor("alice", token) == public(1)
    clock.advance(1)
    observations.sweep()
    with pytest.raises(Refused):
        observations.addressFor("alice", token)


def test_anObservationLivesWhileItsConnectionIsOpen(
    observations: Observations, clock: Clock
) -> None:
    token = observations.issue("alice")
    observations.show(token, public(1))
    for _ in range(5):
        clock.advance(LIFETIME)
        observations.sweep()
    assert observations.addressFor("alice", token) == public(1)


def test_ofTooManyTokensTheOldestGo(observations: Observations) -> None:
    first = observations.issue("alice")
    shown = observations.show(first, public(1))
    assert shown is not None
    others = [observations.issue("alice") for _ in range(MOST_PER_OWNER)]
    assert shown.isDropped
    assert all(observations.show(token, public(1)) is not None for token in others)


def test_oneOwnersTokensDoNotDriveOutAnothers(observations: Observations) -> None:
    token = observations.issue("alice")
    for _ in range(3 * MOST_PER_OWNER):
        observations.issue("mallory")
    assert observations.show(token, public(1)) is not None


def test_nothingIsKeptOfAnOwnerWhoIsGone(observations: Observations) -> None:
    shown = observations.show(observations.issue("alice"), public(1))
    observations.issue("alice")
    observations.forget("alice")
    assert shown is not None
    assert shown.isDropped
    assert not observations._byToken
    assert not observations._byOwner


def test_nothingIsKeptForEver(observations: Observations, clock: Clock) -> None:
    for number in range(200):
        token = observations.issue(number % 7)
        if number % 3 == 0:
            shown = observations.show(token, public(1))
            assert shown is not None
            shown.isOpen = False
        clock.advance(1)
        observations.sweep()
    clock.advance(LIFETIME)
    observations.sweep()
    assert not observations._byToken
    assert not observations._byOwner
