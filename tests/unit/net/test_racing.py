"""
Tests for L{punchd.net.racing}: endpoints, proofs and time are the test's.
"""

import errno
from random import Random
from typing import Any, cast

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import (
    ConnectBindError,
    ConnectError,
    ConnectionRefusedError,
    NoRouteError,
    TCPTimedOutError,
    TimeoutError,
)
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from punchd.errors import NotTrusted
from punchd.net.held import HeldPort
from punchd.net.racing import AT_ONCE, LONGEST_PAUSE, TAKEN_PAUSE, RaceLost, RacingEndpoint
from punchd.values.addresses import Address, makeAddress
from punchd.values.outcomes import Result, Try, Way
from tests.unit.net.memory import MemoryTransport
from tests.unit.net.ports import Dialling, FakePort

ONE = makeAddress("198.51.100.1", 1000)
TWO = makeAddress("198.51.100.2", 2000)


class Race:
    """
    A race under way.
    """

    def __init__(
        self,
        *remotes: Address,
        listening: bool = False,
        retries: int = 1,
        isTaken: bool = False,
    ) -> None:
        self.clock = Clock()
        self.port = FakePort(self.clock, isTaken=isTaken)
        self.proofs: list[Deferred[None]] = []
        self.endpoint = RacingEndpoint(
            self.clock,
            cast(HeldPort, self.port),
            remotes,
            Random(1),
            self._prove,
            listening,
            retries,
        )
        self.won: list[IProtocol] = []
        self.lost: list[Failure] = []
        self.running = self.endpoint.connect(Factory.forProtocol(Protocol))
        self.running.addCallbacks(self.won.append, self.lost.append)

    def _prove(self, protocol: IProtocol) -> Deferred[None]:
        self.proofs.append(Deferred())
        return self.proofs[-1]

    @property
    def dials(self) -> list[Dialling]:
        return self.port.dials

    @property
    def results(self) -> list[Result]:
        return [one.result for one in self.endpoint.tries]

    @property
    def leavesNothing(self) -> bool:
        open_ = [one for one in self.dials if not one.connecting.called]
        return not open_ and not self.clock.getDelayedCalls() and self.port.listening == 0


def refused() -> ConnectionRefusedError:
    return ConnectionRefusedError(errno.ECONNREFUSED)


def taken() -> ConnectError:
    return ConnectError(errno.EADDRNOTAVAIL)


def test_itIsAnEndpoint() -> None:
    verifyObject(IStreamClientEndpoint, Race(ONE).endpoint)


def test_allRemotesAreDialledAtOnce() -> None:
    race = Race(ONE, TWO)
    assert [one.remote for one in race.dials] == [ONE, TWO]


# Winning.


def test_aConnectionWinsWhenItIsProven() -> None:
    race = Race(ONE)
    transport = race.dials[0].succeed()
    assert race.won == []
    race.proofs[0].callback(None)
    assert race.won == [transport.protocol]


def test_theFirstProvenWinsNotTheFirstConnected() -> None:
    race = Race(ONE, TWO)
    race.dials[0].succeed()
    second = race.dials[1].succeed()
    race.proofs[1].callback(None)
    assert race.won == [second.protocol]


def test_winningEndsAllOtherDialling() -> None:
    race = Race(ONE, TWO, listening=True, retries=5)
    race.dials[0].succeed()
    race.proofs[0].callback(None)
    assert race.dials[1].isCancelled
    assert race.leavesNothing


def test_aProofThatComesTooLateIsAborted() -> None:
    race = Race(ONE, TWO)
    race.dials[0].succeed()
    second = race.dials[1].succeed()
    race.proofs[0].callback(None)
    race.proofs[1].callback(None)
    assert second.isAborted
    assert len(race.won) == 1


def test_aConnectionMadeWhileBeingCancelledIsAborted() -> None:
    race = Race(ONE)
    # An endpoint may succeed when it is told to stop.
    race.dials[0].connecting = race.dials[0].connecting
    made: list[MemoryTransport] = []
    race.dials[0].connecting._canceller = lambda _: made.append(race.dials[0].succeed())
    race.running.cancel()
    assert [transport.isAborted for transport in made] == [True]


def test_theWinnersConnectionIsLeftOpen() -> None:
    race = Race(ONE)
    transport = race.dials[0].succeed()
    race.proofs[0].callback(None)
    assert not transport.isAborted


# Failing and trying again.


RETRIES = 36


def test_aDialThatFailsIsTriedAgainAtOnceForAWhile() -> None:
    """
    A SYN that comes in between would spoil the four-tuple.
    """
    race = Race(ONE, retries=RETRIES)
    while race.clock.seconds() == 0:
        race.dials[-1].fail(refused())
        pause = race.clock.getDelayedCalls()[0].getTime()
        race.clock.advance(pause)
    assert len(race.dials) - 2 == AT_ONCE * RETRIES


def test_thenItIsTriedAgainAfterAShortPause() -> None:
    race = Race(ONE, retries=2)
    race.dials[0].fail(refused())
    assert len(race.dials) == 1
    race.clock.advance(LONGEST_PAUSE)
    assert len(race.dials) == 2


def test_thePausesAreRandom() -> None:
    race = Race(ONE, retries=RETRIES)
    for _ in range(int(AT_ONCE * RETRIES)):
        race.dials[-1].fail(refused())
        race.clock.advance(0)
    pauses = set()
    for _ in range(10):
        race.dials[-1].fail(refused())
        before = race.clock.seconds()
        race.clock.advance(race.clock.getDelayedCalls()[0].getTime() - before)
        pauses.add(race.dials[-1].at - before)
    assert len(pauses) == 10
    assert max(pauses) <= LONGEST_PAUSE


def test_aDialThatHearsNothingIsLeftAlone() -> None:
    race = Race(ONE, retries=5)
    race.clock.advance(30)
    assert len(race.dials) == 1
    assert not race.dials[0].isCancelled


@pytest.mark.parametrize("retries", [1, 2, 7])
def test_triesAreBounded(retries: int) -> None:
    race = Race(ONE, retries=retries)
    while not race.lost:
        race.dials[-1].fail(refused())
        race.clock.advance(LONGEST_PAUSE)
    assert len(race.dials) == retries
    assert race.lost[0].check(RaceLost)
    assert race.leavesNothing


def test_eachRemoteHasTriesOfItsOwn() -> None:
    race = Race(ONE, TWO, retries=2)
    race.dials[0].fail(refused())
    race.clock.advance(LONGEST_PAUSE)
    race.dials[2].fail(refused())
    race.clock.advance(LONGEST_PAUSE)
    assert not race.lost
    assert [one.remote for one in race.dials] == [ONE, TWO, ONE]


def test_withoutRemotesTheRaceIsLostAtOnce() -> None:
    race = Race()
    assert race.lost[0].check(RaceLost)


def test_whoListensWaitsForTheOtherSide() -> None:
    race = Race(ONE, listening=True)
    race.dials[0].fail(refused())
    race.clock.advance(60)
    assert not race.lost
    race.running.cancel()
    assert race.leavesNothing


def test_anUnprovenConnectionIsAbortedAndTriedAgain() -> None:
    race = Race(ONE, retries=2)
    transport = race.dials[0].succeed()
    race.proofs[0].errback(NotTrusted("it was somebody else"))
    assert transport.isAborted
    race.clock.advance(LONGEST_PAUSE)
    assert len(race.dials) == 2


def test_unprovenConnectionsUseUpTries() -> None:
    race = Race(ONE)
    race.dials[0].succeed()
    race.proofs[0].errback(NotTrusted("it was somebody else"))
    assert race.lost[0].check(RaceLost)


# Listening.


def test_itListensWhileItRuns() -> None:
    race = Race(ONE, listening=True)
    assert race.port.listening == 1
    race.running.cancel()
    assert race.port.listening == 0


def test_aPortThatCannotBeListenedOnIsDialledFrom() -> None:
    race = Race(ONE, listening=True, isTaken=True)
    assert len(race.dials) == 1
    race.dials[0].fail(refused())
    assert race.lost[0].check(RaceLost)


def test_anAddressThatIsTakenIsLeftToTheListenerForAWhile() -> None:
    race = Race(ONE, listening=True, retries=5)
    race.dials[0].fail(taken())
    race.clock.advance(TAKEN_PAUSE / 2)
    assert race.port.listening == 1
    assert len(race.dials) == 1


def test_anAddressThatStaysTakenPutsTheListenerDown() -> None:
    race = Race(ONE, listening=True, retries=5)
    race.dials[0].fail(taken())
    race.clock.advance(TAKEN_PAUSE)
    assert race.port.listening == 0


def test_whenTheListenerIsDownDiallingGoesOn() -> None:
    race = Race(ONE, listening=True, retries=5)
    race.dials[0].fail(taken())
    race.clock.advance(TAKEN_PAUSE + LONGEST_PAUSE)
    assert len(race.dials) == 2


def test_theListenerIsPutDownOnce() -> None:
    race = Race(ONE, TWO, listening=True, retries=5)
    race.dials[0].fail(taken())
    race.dials[1].fail(taken())
    for _ in range(4):
        race.clock.advance(TAKEN_PAUSE)
    race.running.cancel()
    assert race.port.listening == 0
    assert race.leavesNothing


def test_whenTheListenerIsDownTheRaceCanBeLost() -> None:
    race = Race(ONE, listening=True)
    race.dials[0].fail(taken())
    race.clock.advance(TAKEN_PAUSE)
    assert race.lost
    assert race.lost[0].check(RaceLost)
    assert race.leavesNothing


# Ending.


@pytest.mark.parametrize("listening", [True, False])
def test_cancellingLeavesNothing(listening: bool) -> None:
    race = Race(ONE, TWO, listening=listening, retries=5)
    race.dials[0].fail(taken())
    race.running.cancel()
    assert race.leavesNothing
    assert race.lost[0].check(CancelledError)


def test_aConnectionThatIsBeingProvenWhenCancelledIsAborted() -> None:
    race = Race(ONE)
    transport = race.dials[0].succeed()
    race.running.cancel()
    race.proofs[0].callback(None)
    assert transport.isAborted
    assert race.won == []


def test_aConnectionThatFailsItsProofAfterwardsIsAborted() -> None:
    race = Race(ONE, retries=9)
    transport = race.dials[0].succeed()
    race.running.cancel()
    race.proofs[0].errback(NotTrusted("x"))
    assert transport.isAborted
    assert race.leavesNothing


# Telling.

TOLD = [
    (refused(), Result.REFUSED),
    (ConnectError(errno.ECONNRESET), Result.REFUSED),
    (taken(), Result.PORT_TAKEN),
    (ConnectBindError(errno.EADDRINUSE), Result.PORT_TAKEN),
    (TCPTimedOutError(errno.ETIMEDOUT), Result.TIMED_OUT),
    (TimeoutError(), Result.TIMED_OUT),
    (NoRouteError(errno.ENETUNREACH), Result.UNREACHABLE),
    (ConnectError(errno.EHOSTUNREACH), Result.UNREACHABLE),
    (ValueError("what is this?"), Result.FAILED),
]


@pytest.mark.parametrize(("error", "result"), TOLD, ids=lambda one: repr(one)[:40])
def test_everyFailureIsNotedAsAValue(error: Exception, result: Result) -> None:
    race = Race(ONE)
    race.clock.advance(0.5)
    race.dials[0].fail(error)
    race.clock.advance(1)
    (one,) = race.endpoint.tries
    assert (one.way, one.remote, one.result, one.seconds) == (Way.DIALLED, ONE, result, 0.5)


def test_aWinIsNoted() -> None:
    race = Race(ONE)
    race.dials[0].succeed()
    race.clock.advance(0.25)
    race.proofs[0].callback(None)
    assert race.endpoint.tries == [Try(Way.DIALLED, ONE, Result.CONNECTED, 0.25)]


def test_whyAConnectionWasNotProvenIsNoted() -> None:
    race = Race(ONE)
    race.dials[0].succeed()
    race.proofs[0].errback(NotTrusted("it was somebody else"))
    (one,) = race.endpoint.tries
    assert (one.result, one.detail) == (Result.NOT_AUTHENTICATED, "it was somebody else")


def test_whatWasCancelledIsNoted() -> None:
    race = Race(ONE, TWO)
    race.dials[0].succeed()
    race.running.cancel()
    assert race.results == [Result.CANCELLED, Result.CANCELLED]


def test_aBugInAProofEndsTheRace() -> None:
    race = Race(ONE, TWO)
    race.endpoint.prove = lambda protocol: cast(Any, None)
    race.dials[0].succeed()
    assert race.lost[0].check(AttributeError)
    assert race.leavesNothing
