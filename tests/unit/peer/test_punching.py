"""
Tests for L{punchd.peer.punching} and L{punchd.peer.attempts}: the plan, the election, and
strategies that misbehave.
"""

from collections.abc import Callable
from typing import Any, cast

import pytest
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from punchd.errors import NoPath, Unreachable
from punchd.interfaces import IAttempt
from punchd.link.punched import PunchedConnection
from punchd.net.held import HeldPort
from punchd.peer.attempts import MOST_REMOTES, MOST_RETRIES, Attempt
from punchd.peer.punching import GRACE
from punchd.values.addresses import makeAddress
from punchd.values.nat import Mapping, NatBehaviour
from punchd.values.outcomes import Outcome, Result, Way
from punchd.values.parties import Offer, Party, Situation
from punchd.values.plans import Plan, PlannedAttempt
from punchd.wire.preamble import Side
from tests.unit.link.pairs import ALICE, BOB, makeTicket
from tests.unit.net.memory import HERE, THERE, MemoryTransport, Pair, lost
from tests.unit.net.ports import FakePort
from tests.unit.peer.punches import JOIN, Introduction, PunchOf, Scripted, dialling

FlushErrors = Callable[..., list[Failure]]


def caller(*strategies: Scripted, plan: Plan | None = None) -> PunchOf:
    return PunchOf(Side.CALLER, Clock(), strategies, plan).run()


def never(attempt: IAttempt) -> Deferred[Any]:
    return Deferred()


def noPath(side: PunchOf) -> NoPath:
    (failure,) = side.lost
    assert isinstance(failure.value, NoPath)
    return failure.value


def test_anAttemptIsOne() -> None:
    verifyObject(IAttempt, Attempt("lan", caller().punch))


# The plan.


def test_strategiesStartWhenThePlanSays() -> None:
    one, two = Scripted("one", never), Scripted("two", never)
    plan = Plan((PlannedAttempt("one", 0.0, 4.0), PlannedAttempt("two", 1.5, 4.0)))
    side = caller(one, two, plan=plan)
    assert (len(one.attempts), len(two.attempts)) == (1, 0)
    side.clock.advance(1.5)
    assert len(two.attempts) == 1
    side.running.cancel()


def test_aStrategyIsCancelledAtItsDeadline() -> None:
    side = caller(Scripted("one", never))
    side.clock.advance(4)
    assert side.results == {"one": Result.TIMED_OUT.value}


def test_whenNothingAppliesThereIsNoPathAtOnce() -> None:
    error = noPath(caller())
    assert "no strategy that both peers have applies" in str(error)


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        (None, Mapping.ENDPOINT_INDEPENDENT, ""),
        (Mapping.ADDRESS_AND_PORT_DEPENDENT, None, "our NAT is symmetric"),
        (None, Mapping.ADDRESS_AND_PORT_DEPENDENT, "bob's NAT is symmetric"),
        (Mapping.ADDRESS_DEPENDENT, Mapping.ADDRESS_DEPENDENT, "both NATs are symmetric"),
    ],
)
def test_aSymmetricNatIsNamedWhereThereIsNoPath(
    ours: Mapping | None, theirs: Mapping | None, said: str
) -> None:
    situation = Situation(
        Party(HERE, Offer(NatBehaviour(ours))), Party(THERE, Offer(NatBehaviour(theirs)))
    )
    side = PunchOf(Side.CALLER, Clock(), [], situation=situation).run()
    text = str(noPath(side))
    assert said in text
    assert ("symmetric" in text) is bool(said)


def test_whenAllHaveFailedThereIsNoPathWithAllOutcomes() -> None:
    failed = Outcome("one", Result.REFUSED, 0.5, detail="nobody there")
    side = caller(Scripted("one", lambda attempt: succeed(failed)), Scripted("two", never))
    side.clock.advance(1)
    side.clock.advance(4)
    error = noPath(side)
    assert [outcome.strategy for outcome in error.outcomes] == ["one", "two"]
    assert error.outcomes[0] is failed
    assert side.leavesNothing


def test_noPathNamesThePeerAndWhatWasTried() -> None:
    failed = Outcome("one", Result.REFUSED, 0.5, detail="nobody there")
    error = noPath(caller(Scripted("one", lambda attempt: succeed(failed))))
    assert str(error) == f"no direct path to bob: {failed.line()}"


def test_aFailureDoesNotEndTheOthers() -> None:
    failed = Outcome("one", Result.REFUSED, 0.5)
    two = Scripted("two", never)
    side = caller(Scripted("one", lambda attempt: succeed(failed)), two)
    side.clock.advance(1)
    assert len(two.attempts) == 1
    assert side.lost == []
    side.running.cancel()


def test_theCalleeWaitsALittleForAnElection() -> None:
    side = PunchOf(Side.CALLEE, Clock(), [Scripted("one", never)]).run()
    side.clock.advance(4)
    assert side.lost == []
    side.clock.advance(GRACE)
    noPath(side)
    assert side.leavesNothing


def test_cancellingEndsEverything() -> None:
    side = caller(dialling("one", listening=True, retries=9), dialling("two"))
    side.clock.advance(1)
    side.running.cancel()
    assert side.lost[0].check(CancelledError)
    assert side.leavesNothing


# Strategies with bugs.


def test_aStrategyThatRaisesIsReportedByName(flushLoggedErrors: FlushErrors) -> None:
    def script(attempt: IAttempt) -> Any:
        raise ValueError("an off-by-one")

    side = caller(Scripted("broken", script))
    (outcome,) = noPath(side).outcomes
    assert (outcome.strategy, outcome.result) == ("broken", Result.FAILED)
    assert "a bug in the strategy: ValueError: an off-by-one" in outcome.detail
    assert flushLoggedErrors(ValueError)


@pytest.mark.parametrize("thing", [None, 7, "connected", b"x" * 5000, object()])
def test_aStrategyThatGivesNoOutcomeIsReportedByName(thing: object) -> None:
    side = caller(Scripted("broken", lambda attempt: thing))
    (outcome,) = noPath(side).outcomes
    assert (outcome.strategy, outcome.result) == ("broken", Result.FAILED)
    assert "for an outcome" in outcome.detail
    assert len(outcome.detail) < 200


def test_aStrategyThatFiresWithNoOutcomeIsReportedByName() -> None:
    side = caller(Scripted("broken", lambda attempt: succeed("connected")))
    (outcome,) = noPath(side).outcomes
    assert (outcome.strategy, outcome.result) == ("broken", Result.FAILED)


def test_aBrokenStrategyDoesNotEndTheOthers(flushLoggedErrors: FlushErrors) -> None:
    def script(attempt: IAttempt) -> Any:
        raise ValueError("a bug")

    two = Scripted("two", never)
    side = caller(Scripted("one", script), two)
    side.clock.advance(1)
    assert len(two.attempts) == 1
    side.running.cancel()
    flushLoggedErrors(ValueError)


def test_anErrorOfOursMeansThatItWasNotPossible() -> None:
    def script(attempt: IAttempt) -> Any:
        raise Unreachable("the assist service does not answer")

    (outcome,) = noPath(caller(Scripted("one", script))).outcomes
    assert outcome.result is Result.NOT_POSSIBLE
    assert outcome.detail == "the assist service does not answer"


def stubborn(attempt: IAttempt) -> Deferred[Any]:
    """
    Goes on, however often it is cancelled.
    """

    async def run() -> None:
        while True:
            try:
                await Deferred()
            except CancelledError:
                continue

    return Deferred.fromCoroutine(run())


def test_aStrategyThatIgnoresItsEndDoesNotHoldUpTheOutcome() -> None:
    side = caller(Scripted("stubborn", stubborn))
    side.clock.advance(4)
    (outcome,) = noPath(side).outcomes
    assert outcome.strategy == "stubborn"


def test_aStrategyThatFiresAfterItsEndHarmsNothing() -> None:
    late: Deferred[Any] = Deferred()
    side = caller(Scripted("late", lambda attempt: late))
    side.clock.advance(4)
    late.callback(Outcome("late", Result.CONNECTED, 9.0))
    assert side.results == {"late": Result.TIMED_OUT.value}


def test_aStrategyThatIsCancelledMayStillGiveAnOutcome() -> None:
    outcome = Outcome("polite", Result.REFUSED, 4.0, detail="cancelled, but tells")

    def script(attempt: IAttempt) -> Deferred[Any]:
        return Deferred(lambda result: result.callback(outcome))

    side = caller(Scripted("polite", script))
    side.clock.advance(4)
    assert noPath(side).outcomes == (outcome,)


def test_aRaceThatItsStrategyForgotEndsWithTheRun() -> None:
    def script(attempt: IAttempt) -> Deferred[Any]:
        attempt.race(attempt.heldPort(), [THERE], listening=True, retries=50)
        return succeed(Outcome("forgetful", Result.REFUSED, 0.0))

    side = caller(Scripted("forgetful", script))
    noPath(side)
    assert side.leavesNothing


# What an attempt has.


def test_aFreshPortIsReleasedWhenTheRunIsOver() -> None:
    def script(attempt: IAttempt) -> Deferred[Any]:
        attempt.freshPort()
        return Deferred()

    side = caller(Scripted("one", script))
    assert side.server.released == []
    side.clock.advance(4)
    assert side.server.released == side.server.ports


def test_aMessageGoesToTheServerUnderTheStrategysName() -> None:
    def script(attempt: IAttempt) -> Deferred[Any]:
        attempt.tell(b"hello")
        return Deferred()

    side = caller(Scripted("one", script))
    assert side.server.told == [(b"s" * 16, "one", b"hello", None)]
    side.running.cancel()


def test_aMessageNamesItsPortByItsToken() -> None:
    def script(attempt: IAttempt) -> Deferred[Any]:
        attempt.freshPort().addCallback(lambda port: attempt.tell(b"port", port))
        return Deferred()

    side = caller(Scripted("one", script))
    assert side.server.told == [(b"s" * 16, "one", b"port", b"t" * 16)]
    side.running.cancel()


def hearing(heard: list[Any]) -> Scripted:
    def script(attempt: IAttempt) -> Deferred[Any]:
        attempt.hear().addCallback(heard.append)
        attempt.hear().addCallback(heard.append)
        return Deferred()

    return Scripted("one", script)


def test_messagesAreHeardInOrder() -> None:
    heard: list[Any] = []
    side = caller(hearing(heard))
    side.punch.told("one", b"1", None)
    side.punch.told("one", b"2", THERE)
    assert heard == [(b"1", None), (b"2", THERE)]
    side.running.cancel()


def test_messagesThatComeBeforeTheStrategyStartsAreKept() -> None:
    heard: list[Any] = []
    plan = Plan((PlannedAttempt("one", 1.0, 4.0),))
    side = caller(hearing(heard), plan=plan)
    side.punch.told("one", b"early", None)
    assert heard == []
    side.clock.advance(1)
    assert heard == [(b"early", None)]
    side.running.cancel()


def test_messagesOfAnotherStrategyAreNotHeard() -> None:
    heard: list[Any] = []
    side = caller(hearing(heard))
    side.punch.told("two", b"1", None)
    assert heard == []
    side.running.cancel()


def test_messagesThatNobodyHearsAreBounded() -> None:
    one = Scripted("one", never)
    side = caller(one, Scripted("two", never))
    for number in range(10_000):
        side.punch.told("one", b"%d" % number, None)
        side.punch.told("two", b"%d" % number, None)
        side.punch.told("nobody", b"%d" % number, None)
    side.clock.advance(1)
    side.running.cancel()
    assert isinstance(one.attempts[0], Attempt)
    assert len(one.attempts[0]._messages.pending) <= 64
    assert len(side.punch._early) <= 64


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "192.168.1.1", "10.0.0.1", "169.254.169.254", "224.0.0.1", "255.255.255.255"],
)
def test_whatIsNoAddressForUsIsNotDialled(host: str) -> None:
    def script(attempt: IAttempt) -> Deferred[Outcome]:
        return attempt.race(attempt.heldPort(), [makeAddress(host, 80)], listening=False)

    side = caller(Scripted("one", script))
    assert side.port.dials == []
    assert noPath(side).outcomes[0].result is Result.NOT_POSSIBLE
    assert any("not an address for us" in step for step in side.steps)


def test_remotesAreBounded() -> None:
    many = [makeAddress("203.0.113.9", 1000 + number) for number in range(100)]

    def script(attempt: IAttempt) -> Deferred[Outcome]:
        return attempt.race(attempt.heldPort(), many, listening=False)

    side = caller(Scripted("one", script))
    assert len(side.port.dials) == MOST_REMOTES
    side.running.cancel()


def test_retriesAreBounded() -> None:
    side = caller(dialling("one", retries=10_000))
    while not side.lost:
        side.port.dials[-1].fail(OSError("no"))
        side.clock.advance(0.06)
        if side.clock.seconds() > 7:
            break
    assert len(side.port.dials) <= MOST_RETRIES


# The election.


def test_bothSidesGetTheSameConnection() -> None:
    introduction = Introduction().run()
    introduction.cross()
    (one,), (two,) = introduction.caller.won, introduction.callee.won
    assert (one.peerID, two.peerID) == (BOB.peerID, ALICE.peerID)
    introduction.end()


def test_whatTheCallerHasJoinedItForIsKnown() -> None:
    introduction = Introduction().run()
    introduction.cross()
    assert introduction.callee.won[0].join == JOIN
    introduction.end()


def test_theCalleeWaitsForTheElection() -> None:
    callee = PunchOf(Side.CALLEE, Clock(), [dialling("dial")]).run()
    dial = callee.port.dials[0]
    protocol: Any = dial.factory.buildProtocol(dial.remote)
    caller = PunchedConnection(callee.clock, Way.ACCEPTED, HERE, makeTicket(Side.CALLER))
    pair = Pair(callee.clock, protocol, caller)
    dial.connecting.callback(protocol)
    assert any("authenticated alice" in step for step in callee.steps)
    assert callee.won == []
    caller.path.write([JOIN.pack()])
    pair.flush()
    assert callee.won == [protocol.path]
    pair.one.abortConnection()
    pair.flush()
    callee.clock.advance(0)


def test_theWinnersNameIsKnownOnBothSides() -> None:
    introduction = Introduction("first", "second").run()
    introduction.clock.advance(1)
    introduction.cross(1)
    assert introduction.caller.punch.wonBy == "second"
    assert introduction.callee.punch.wonBy == "second"
    introduction.end()


def test_theWinnerIsConnectedAndTheOthersCancelled() -> None:
    introduction = Introduction("first", "second").run()
    introduction.clock.advance(1)
    introduction.cross(1)
    introduction.clock.advance(0)
    for side in (introduction.caller, introduction.callee):
        assert side.results == {"first": "cancelled", "second": "connected"}
    introduction.end()


def test_afterTheElectionNothingIsDialled() -> None:
    introduction = Introduction("first", "second", listening=True, retries=20).run()
    introduction.cross()
    introduction.clock.advance(0)
    introduction.flush()
    for side in (introduction.caller, introduction.callee):
        assert side.leavesNothing
        assert len(side.port.dials) == 1
    introduction.end()


def test_theOtherConnectionsAreAborted() -> None:
    introduction = Introduction("first", "second").run()
    introduction.clock.advance(1)
    caller, callee = introduction.caller, introduction.callee
    # Two connections open; the second is proven first.
    one, two = caller.port.dials[0], callee.port.dials[0]
    slow = introduction._join(
        one.factory.buildProtocol(one.remote), two.factory.buildProtocol(two.remote)
    )
    winner = introduction.cross(1)
    introduction.flush()
    assert not slow.isOpen
    assert winner.isOpen
    introduction.end()


def test_aConnectionThatTheListenerTookWins() -> None:
    introduction = Introduction(listening=True).run()
    introduction.arrive(introduction.callee, introduction.caller.port.dials[0])
    assert introduction.caller.won
    assert introduction.callee.won
    introduction.end()


def test_theCallerMayBeTheOneThatAccepts() -> None:
    introduction = Introduction(listening=True).run()
    introduction.arrive(introduction.caller, introduction.callee.port.dials[0])
    assert introduction.caller.won
    assert introduction.callee.won
    introduction.end()


def test_whatTheListenerTookCountsForTheStrategyThatListened() -> None:
    introduction = Introduction(listening=True).run()
    introduction.arrive(introduction.callee, introduction.caller.port.dials[0])
    introduction.clock.advance(0)
    (outcome,) = introduction.callee.punch.outcomes
    assert outcome.strategy == "dial"
    assert [one.way for one in outcome.tries if one.result is Result.CONNECTED] == [Way.ACCEPTED]
    introduction.end()


def listeningOnly(name: str) -> Scripted:
    return Scripted(name, lambda attempt: attempt.race(attempt.heldPort(), [], listening=True))


def test_whatComesFromAnotherPortCountsForTheStrategyThatListensForAny() -> None:
    side = caller(listeningOnly("first"), dialling("second", listening=True))
    side.clock.advance(1)
    number = side.port.number
    assert side.punch._strategyFor(number, makeAddress(THERE.host, 1))[0] == "first"
    assert side.punch._strategyFor(number, THERE)[0] == "second"
    side.running.cancel()


def test_whatAnothersListenerTookCountsForTheStrategyThatDialsIt() -> None:
    """
    Where a router hairpins, a listener for neighbours takes what comes by way of the router, too.
    """
    elsewhere = makeAddress("203.0.113.77", 7)

    def neighbours(attempt: IAttempt) -> Deferred[Any]:
        return attempt.race(attempt.heldPort(), [elsewhere], listening=True)

    side = caller(Scripted("lan", neighbours), dialling("other"))
    side.clock.advance(1)
    assert side.punch._strategyFor(side.port.number, THERE)[0] == "other"
    assert side.punch._strategyFor(side.port.number, elsewhere)[0] == "lan"
    side.running.cancel()


# Other addresses than the one that is called at.


SIXTH = makeAddress("2001:db8::9", 4000)
OWN6 = makeAddress("2001:db8::8", 4001)


def withIPv6(script: Callable[[IAttempt], Any]) -> tuple[PunchOf, FakePort]:
    """
    A caller whose IPv6 port was observed as C{OWN6}, of a callee at C{SIXTH}.
    """
    situation = Situation(Party(HERE, Offer(ipv6=OWN6)), Party(THERE, Offer(ipv6=SIXTH)))
    side = PunchOf(Side.CALLER, Clock(), [Scripted("one", script)], situation=situation)
    port = FakePort(side.clock, number=6666, interface=OWN6.host)
    side.server.seen[OWN6] = cast(HeldPort, port)
    return side, port


def test_theIPv6PortIsTheOneThatTheOtherWasTold() -> None:
    ports: list[Any] = []

    def script(attempt: IAttempt) -> Deferred[Any]:
        ports.append(attempt.ipv6Port())
        return Deferred()

    side, port = withIPv6(script)
    side.run().running.cancel()
    side.server.seen.clear()
    again = PunchOf(Side.CALLER, Clock(), [Scripted("one", script)])
    again.run().running.cancel()
    assert ports == [port, None]


def racing(*remotes: Any) -> Callable[[IAttempt], Any]:
    def script(attempt: IAttempt) -> Deferred[Any]:
        port = attempt.ipv6Port()
        assert port is not None
        return attempt.race(port, list(remotes), listening=True)

    return script


def test_theOthersIPv6CandidateIsDialled() -> None:
    side, port = withIPv6(racing(SIXTH))
    side.run()
    assert [dial.remote for dial in port.dials] == [SIXTH]
    side.running.cancel()


def test_noOtherIPv6AddressIsDialled() -> None:
    side, port = withIPv6(racing(makeAddress("2001:db8::a", 4000), makeAddress(SIXTH.host, 22)))
    side.run()
    assert port.dials == []
    assert [step for step in side.steps if "not an address for us to dial" in step]
    side.running.cancel()


def test_theOtherFamilyIsNotDialled() -> None:
    side, port = withIPv6(racing(THERE))
    side.run()
    assert port.dials == []
    assert [step for step in side.steps if "of the other family" in step]
    side.running.cancel()


def test_whatComesToAPortOfTheOtherFamilyDoesNotCount() -> None:
    """
    The two may have the same number.
    """
    side, port = withIPv6(racing(SIXTH))
    side.run()
    (run,) = side.punch._runs.values()
    assert run.attempt.expects(port.number, THERE) == 0
    assert run.attempt.expects(port.number, SIXTH) > 0
    side.running.cancel()


def test_whatComesToAFreshPortCountsForTheStrategyThatTookIt() -> None:
    def script(attempt: IAttempt) -> Deferred[Any]:
        attempt.freshPort()
        return Deferred()

    side = caller(dialling("first", listening=True), Scripted("second", script))
    side.clock.advance(1)
    assert side.punch._strategyFor(side.server.ports[0].number, THERE)[0] == "second"
    side.running.cancel()


def test_connectionsThatProveNothingAreBoundedInTheOutcome() -> None:
    introduction = Introduction(listening=True).run()
    punch = introduction.callee.punch
    for _ in range(MOST_RETRIES + 10):
        protocol: Any = introduction.callee.arrivals.buildProtocol(HERE)
        transport = MemoryTransport(protocol, True, HERE, THERE)
        protocol.makeConnection(transport)
        protocol.dataReceived(introduction.caller.punch.ticket.preamble.pack() + b"GET / HTTP/1.0")
        protocol.connectionLost(lost())
    introduction.clock.advance(20)
    assert len([one for one in punch.outcomes[0].tries if one.way is Way.ACCEPTED]) == MOST_RETRIES
    introduction.end()


def test_theTimelineTellsOfGoAndWin() -> None:
    introduction = Introduction().run()
    introduction.cross()
    steps = introduction.caller.steps
    assert steps[0].startswith("GO; the plan: dial at 0.00 s")
    assert any("authenticated bob" in step for step in steps)
    assert any(step.startswith("dial wins after") for step in steps)
    introduction.end()


def test_anAcceptedConnectionAfterTheEndIsAborted() -> None:
    introduction = Introduction(listening=True).run()
    introduction.cross()
    protocol: Any = introduction.callee.arrivals.buildProtocol(HERE)
    other = introduction.caller.punch.makeConnection(Way.DIALLED, THERE)
    pair = introduction._join(other, protocol)
    introduction.flush()
    assert not pair.isOpen
    introduction.end()
