"""
Tests for L{punchd.peer.guesses}, and for an attempt's C{spray}: whom it dials, and how often.
"""

from random import Random
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionRefusedError
from twisted.internet.task import Clock

from punchd.interfaces import IAttempt
from punchd.net.held import HeldPort
from punchd.peer.attempts import SPRAY_PATIENCE
from punchd.peer.guesses import (
    AT_ONCE,
    MOST_GUESSES,
    MOST_HALF_OPEN,
    SECONDS_FOR_ONE,
    Allotment,
    Guesses,
)
from punchd.values.addresses import Address, makeAddress
from punchd.values.outcomes import Outcome, Result
from punchd.values.plans import Plan, PlannedAttempt
from punchd.wire.preamble import Side
from tests.unit.net.memory import THERE
from tests.unit.peer.punches import Introduction, PunchOf, Scripted

# The budget.


def test_whatIsTakenIsGone() -> None:
    allotment = Allotment(Guesses(300))
    assert [allotment.take(256), allotment.take(256)] == [256, 44]


def test_halfOpenOnesAreBounded() -> None:
    allotment = Allotment()
    assert allotment.take(MOST_GUESSES) == MOST_HALF_OPEN
    assert allotment.take(1) == 0


def test_whatHasEndedMakesRoom() -> None:
    allotment = Allotment()
    allotment.take(MOST_HALF_OPEN)
    for _ in range(10):
        allotment.ended()
    assert allotment.take(256) == 10


def test_whatWasNotUsedIsNotSpent() -> None:
    allotment = Allotment(Guesses(300))
    allotment.take(256)
    allotment.spared(200)
    assert allotment.take(256) == 244


def test_halfOpenOnesOfAllIntroductionsCount() -> None:
    guesses = Guesses()
    one, other = Allotment(guesses), Allotment(guesses)
    one.take(500)
    assert other.take(256) == 12
    assert other.left == MOST_GUESSES - 12


def test_anIntroductionCostsNoMoreThanItMay() -> None:
    allotment, random = Allotment(), Random(1)
    spent = open_ = 0
    for _ in range(2000):
        taken = allotment.take(random.randrange(400))
        spent, open_ = spent + taken, open_ + taken
        assert open_ <= MOST_HALF_OPEN
        for _ in range(random.randrange(open_ + 1)):
            allotment.ended()
            open_ -= 1
    assert spent == MOST_GUESSES


# Spraying.


class Spraying:
    """
    One side, whose strategy sprays as the test says.
    """

    def __init__(self, side: Side = Side.CALLER) -> None:
        self.strategy = Scripted("guess", lambda attempt: Deferred())
        plan = Plan((PlannedAttempt("guess", 0.0, 60.0),))
        self.side = PunchOf(side, Clock(), [self.strategy], plan).run()
        self.attempt: Any = self.strategy.attempts[0]
        self.ended: list[Outcome] = []

    @property
    def dialled(self) -> list[Address]:
        return [one.remote for one in self.side.port.dials]

    def spray(self, *remotes: Address) -> "Spraying":
        port = cast(HeldPort, self.side.port)
        self.attempt.spray(list(remotes), port).addCallback(self.ended.append)
        return self

    def end(self) -> None:
        self.side.running.cancel()
        assert self.side.leavesNothing
        assert self.side.punch.allotment._guesses.halfOpen == 0


def ports(first: int, count: int, host: str = THERE.host) -> list[Address]:
    return [makeAddress(host, port) for port in range(first, first + count)]


def test_allRemotesAreDialledAtOnce() -> None:
    spraying = Spraying().spray(*ports(5000, 256))
    assert spraying.dialled == ports(5000, 256)
    spraying.end()


@pytest.mark.parametrize(
    "remote",
    [
        makeAddress("203.0.113.3", 5000),
        makeAddress("192.168.1.1", 5000),
        makeAddress("127.0.0.1", 5000),
        makeAddress("224.0.0.1", 5000),
        makeAddress("2001:db8::1", 5000),
    ],
)
def test_anotherHostIsNotDialled(remote: Address) -> None:
    spraying = Spraying().spray(remote, *ports(5000, 2))
    assert spraying.dialled == ports(5000, 2)
    assert any("leaves 1 guesses out" in step for step in spraying.side.steps)
    spraying.end()


def test_aWellKnownPortIsNotDialled() -> None:
    spraying = Spraying().spray(*ports(1000, 50))
    assert spraying.dialled == ports(1024, 26)
    spraying.end()


def test_whatTheServerHasObservedMeanwhileIsDialled() -> None:
    spraying = Spraying()
    elsewhere = makeAddress("203.0.113.77", 443)
    spraying.attempt.told(b"", elsewhere)
    spraying.spray(*ports(5000, 2, elsewhere.host), elsewhere)
    assert spraying.dialled == [*ports(5000, 2, elsewhere.host), elsewhere]
    spraying.end()


def test_aPrivateHostIsNotDialledEvenIfTheServerSaysSo() -> None:
    spraying = Spraying()
    spraying.attempt.told(b"", makeAddress("192.168.1.1", 5000))
    spraying.spray(*ports(5000, 2, "192.168.1.1"))
    assert spraying.dialled == []
    spraying.end()


def test_observedHostsAreBounded() -> None:
    spraying = Spraying()
    hosts = [f"203.0.113.{number}" for number in range(4, 104)]
    for host in hosts:
        spraying.attempt.told(b"", makeAddress(host, 5000))
    spraying.spray(*(makeAddress(host, 6000) for host in hosts))
    assert len(spraying.dialled) < len(hosts)
    spraying.end()


def test_theBudgetIsOfTheWholeIntroduction() -> None:
    spraying = Spraying()
    for _ in range(12):
        spraying.spray(*ports(5000, 256))
        spraying.side.clock.advance(SPRAY_PATIENCE)
    assert len(spraying.dialled) == MOST_GUESSES
    assert any("guesses out" in step for step in spraying.side.steps)
    spraying.end()


def test_noMoreThanSoManyWaitAtATime() -> None:
    spraying = Spraying().spray(*ports(5000, 256)).spray(*ports(6000, 256)).spray(*ports(7000, 9))
    assert len(spraying.dialled) == MOST_HALF_OPEN
    spraying.end()


def test_whatDialsNothingIsNotPossible() -> None:
    spraying = Spraying().spray(*ports(5000, 2, "203.0.113.3"))
    assert [outcome.result for outcome in spraying.ended] == [Result.NOT_POSSIBLE]
    spraying.end()


def test_whoHearsNothingGivesUp() -> None:
    spraying = Spraying().spray(*ports(5000, 3))
    spraying.side.clock.advance(SPRAY_PATIENCE)
    (outcome,) = spraying.ended
    assert outcome.result is Result.TIMED_OUT
    assert all(one.isCancelled for one in spraying.side.port.dials)
    spraying.end()


def test_whatCameOfManyIsToldAsOne() -> None:
    spraying = Spraying().spray(*ports(5000, 256))
    for one in spraying.side.port.dials[:6]:
        one.fail(ConnectionRefusedError())
    spraying.side.port.dials[6].fail(ConnectError(99, "address not available"))
    spraying.side.clock.advance(SPRAY_PATIENCE)
    (outcome,) = spraying.ended
    assert outcome.line() == (
        f"guess: no answer after 0.9 s (dialled {THERE.host}:*: refused 6 times, "
        f"dialled {THERE.host}:*: port taken, dialled {THERE.host}:*: no answer 249 times)"
    )
    spraying.end()


def test_aSprayThatItsStrategyForgotEndsWithTheRun() -> None:
    spraying = Spraying().spray(*ports(5000, 100))
    spraying.side.clock.advance(0.5)
    spraying.side.running.cancel()
    assert all(one.isCancelled for one in spraying.side.port.dials)
    assert spraying.side.leavesNothing


def test_afterItsEndAnAttemptSpraysNothing() -> None:
    spraying = Spraying()
    spraying.side.running.cancel()
    with pytest.raises(Exception, match="over"):
        spraying.spray(*ports(5000, 1))
    assert spraying.dialled == []


def guess(attempt: IAttempt) -> Deferred[Outcome]:
    """
    Both dial three ports, of which the second is the right one.
    """
    remotes = ports(0, 0)
    other = attempt.situation.callee if attempt.isCaller else attempt.situation.caller
    for port in (5000, other.reflexive.port, 5001):
        remotes.append(makeAddress(other.reflexive.host, port))
    return attempt.spray(remotes, attempt.heldPort())


class Guessing(Introduction):
    """
    An introduction whose sides guess.
    """

    def __init__(self) -> None:
        super().__init__()
        self.caller, self.callee = (
            PunchOf(side, self.clock, [Scripted("guess", guess)]) for side in Side
        )
        self.run()


def test_theFirstThatIsAuthenticatedWins() -> None:
    introduction = Guessing()
    introduction.cross(1)
    assert len(introduction.caller.won) == len(introduction.callee.won) == 1
    assert introduction.caller.punch.wonBy == introduction.callee.punch.wonBy == "guess"


def test_whenOneIsAuthenticatedTheOthersAreClosed() -> None:
    introduction = Guessing()
    introduction.cross(1)
    for side in (introduction.caller, introduction.callee):
        assert [one.isCancelled for one in side.port.dials] == [True, False, True]


def test_theWinnersOutcomeTellsWhereItConnected() -> None:
    introduction = Guessing()
    introduction.cross(1)
    introduction.clock.advance(0)
    (outcome,) = introduction.caller.punch.outcomes
    connected = [one for one in outcome.tries if one.result is Result.CONNECTED]
    assert [one.remote for one in connected] == [THERE]


def test_aGuessThatProvesNothingIsCounted() -> None:
    spraying = Spraying().spray(*ports(5000, 3))
    transport = spraying.side.port.dials[0].succeed()
    protocol: Any = transport.protocol
    protocol.dataReceived(b"SSH-2.0-somebody else\r\n")
    spraying.side.clock.advance(SPRAY_PATIENCE)
    assert transport.isAborted
    protocol.connectionLost(ConnectionRefusedError())
    (outcome,) = spraying.ended
    assert {one.result: one.sockets for one in outcome.tries} == {
        Result.NOT_AUTHENTICATED: 1,
        Result.TIMED_OUT: 2,
    }
    spraying.end()


def test_inTheLongRunAllIntroductionsTogetherArePaced() -> None:
    clock = Clock()
    guesses = Guesses.of(clock, 100)

    def spend() -> int:
        allotment = Allotment(guesses)
        taken = allotment.take(100)
        for _ in range(taken):
            allotment.ended()
        return taken

    assert [spend() for _ in range(AT_ONCE + 1)] == [100] * AT_ONCE + [0]
    clock.advance(SECONDS_FOR_ONE / 2)
    assert spend() == 50
    clock.advance(10 * SECONDS_FOR_ONE * AT_ONCE)
    assert sum(spend() for _ in range(2 * AT_ONCE)) == 100 * AT_ONCE
