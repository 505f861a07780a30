"""
Tests for L{punchd.peer.usage}.
"""

from contextlib import suppress

import pytest
from twisted.internet.task import Clock

from punchd.link.path import Path
from punchd.peer.usage import LINGERING, Usage
from tests.unit.link.pairs import ALICE, BOB


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def usage(clock: Clock) -> Usage:
    return Usage(clock)


def test_atFirstThePortIsFree(usage: Usage) -> None:
    assert usage.isFree(BOB.peerID)
    assert not usage.isOngoing(BOB.peerID)


def test_itIsUsedTowardOnePeer(usage: Usage) -> None:
    with usage.toward(BOB.peerID) as use:
        use.hasDialled = True
    assert usage.isFree(ALICE.peerID)


def test_whileOneOfTwoIsUnderWayItIsNotFree(usage: Usage, clock: Clock) -> None:
    with usage.toward(BOB.peerID):
        with usage.toward(BOB.peerID):
            pass
        clock.advance(LINGERING)
        assert usage.isOngoing(BOB.peerID)
        assert not usage.isFree(BOB.peerID)


def test_itLingersFromTheEndOfTheLast(usage: Usage, clock: Clock) -> None:
    for _ in range(2):
        clock.advance(LINGERING - 1)
        with usage.toward(BOB.peerID) as use:
            use.hasDialled = True
    clock.advance(LINGERING - 1)
    assert not usage.isFree(BOB.peerID)
    clock.advance(1)
    assert usage.isFree(BOB.peerID)


def test_whoNeverDialsLeavesNothing(usage: Usage) -> None:
    with usage.toward(BOB.peerID):
        pass
    assert usage.isFree(BOB.peerID)


def test_itLingersAfterAnErrorToo(usage: Usage) -> None:
    with suppress(ZeroDivisionError), usage.toward(BOB.peerID) as use:
        use.hasDialled = True
        raise ZeroDivisionError
    assert not usage.isOngoing(BOB.peerID)
    assert not usage.isFree(BOB.peerID)


def test_aPathUsesItUntilItIsLost(usage: Usage, clock: Clock) -> None:
    path = Path(clock, lambda: None)
    with usage.toward(BOB.peerID) as use:
        use.hasDialled, use.path = True, path
    clock.advance(LINGERING)
    assert usage.isOngoing(BOB.peerID)
    path.connectionLost()
    assert not usage.isOngoing(BOB.peerID)
    clock.advance(LINGERING - 1)
    assert not usage.isFree(BOB.peerID)


def test_itKeepsNoTimer(usage: Usage, clock: Clock) -> None:
    """
    A peer that is stopped need not know of it.
    """
    with usage.toward(BOB.peerID) as use:
        use.hasDialled = True
    assert clock.getDelayedCalls() == []
