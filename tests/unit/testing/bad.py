"""
Strategies that do everything wrong, each in a way of its own.
"""

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from punchd.interfaces import IAttempt, IStrategy
from punchd.values.addresses import Address, makeAddress
from punchd.values.outcomes import Outcome, Result
from punchd.values.parties import Situation
from punchd.values.plans import Consideration


def others(attempt: IAttempt) -> Address:
    situation: Situation = attempt.situation
    other = situation.callee if attempt.isCaller else situation.caller
    return other.reflexive


def dial(attempt: IAttempt, remote: Address) -> Deferred[Any]:
    """
    Past the attempt's race, which would look after it.
    """
    factory: Any = Factory.forProtocol(Protocol)
    factory.noisy = False
    connecting: Deferred[Any] = attempt.heldPort().to(remote).connect(factory)
    return connecting.addErrback(lambda failure: None)


@implementer(IStrategy)
class Good:
    """
    What the bad ones spoil.
    """

    name = "good"
    version = 1

    def consider(self, situation: Situation) -> Consideration | None:
        return Consideration(0.2, 2.0)

    def attempt(self, attempt: IAttempt) -> Deferred[Outcome]:
        racing: Deferred[Outcome] = attempt.race(
            attempt.heldPort(), [others(attempt)], listening=False, retries=20
        )
        return racing


class Shouting(Good):
    name = "LOUD VOICE"


class Versionless(Good):
    version: Any = None


class RaisesInConsider(Good):
    def consider(self, situation: Situation) -> Consideration | None:
        raise ZeroDivisionError("considered")


class Unsure(Good):
    def consider(self, situation: Situation) -> Any:
        return "perhaps"


class Endless(Good):
    def consider(self, situation: Situation) -> Consideration | None:
        return Consideration(0.2, 1e9)


class Backwards(Good):
    def consider(self, situation: Situation) -> Consideration | None:
        return Consideration(-1.0, 2.0)


class Moody(Good):
    """
    Says something else each time.
    """

    times = 0

    def consider(self, situation: Situation) -> Consideration | None:
        self.times += 1
        return Consideration(0.2, 1.0 + self.times % 2)


class Personal(Good):
    """
    Each object of it has an opinion of its own.
    """

    objects = 0

    def __init__(self) -> None:
        Personal.objects += 1
        self.patience = 1.0 + Personal.objects % 2

    def consider(self, situation: Situation) -> Consideration | None:
        return Consideration(0.2, self.patience)


class Useless(Good):
    def consider(self, situation: Situation) -> Consideration | None:
        return None


class RaisesInAttempt(Good):
    def attempt(self, attempt: IAttempt) -> Deferred[Outcome]:
        raise ZeroDivisionError("attempted")


class FailsInAttempt(Good):
    def attempt(self, attempt: IAttempt) -> Deferred[Outcome]:
        async def work() -> Outcome:
            raise ZeroDivisionError("attempted")

        return Deferred.fromCoroutine(work())


class GivesNothing(Good):
    def attempt(self, attempt: IAttempt) -> Any:
        return None


class GivesAWord(Good):
    def attempt(self, attempt: IAttempt) -> Any:
        return succeed("connected")


class SpeaksForAnother(Good):
    def attempt(self, attempt: IAttempt) -> Deferred[Outcome]:
        return succeed(Outcome("lan", Result.REFUSED, 0.0))


class NeverFires(Good):
    """
    No harm in that: its time runs out.
    """

    def attempt(self, attempt: IAttempt) -> Deferred[Outcome]:
        return Deferred()


class Undead(Good):
    """
    Goes on although it was cancelled.
    """

    def attempt(self, attempt: IAttempt) -> Deferred[Outcome]:
        async def work() -> Outcome:
            while True:
                try:
                    await Deferred()
                except CancelledError:
                    continue

        return Deferred.fromCoroutine(work())


class RaisesWhenCancelled(Good):
    def attempt(self, attempt: IAttempt) -> Deferred[Outcome]:
        def canceller(cancelled: object) -> None:
            raise ZeroDivisionError("cancelled")

        return Deferred(canceller)


class FiresTwice(Good):
    def attempt(self, attempt: IAttempt) -> Deferred[Outcome]:
        fired: Deferred[Outcome] = Deferred()
        outcome = Outcome(self.name, Result.REFUSED, 0.0)
        for moment in (0.1, 0.2):
            attempt.clock.callLater(moment, fired.callback, outcome)
        return fired


class LeaksACall(Good):
    def attempt(self, attempt: IAttempt) -> Deferred[Outcome]:
        attempt.clock.callLater(3600.0, lambda: None)
        return super().attempt(attempt)


class LeaksASocket(Good):
    def attempt(self, attempt: IAttempt) -> Deferred[Outcome]:
        # Nothing answers there.
        dial(attempt, makeAddress("198.18.99.99", 9))
        return super().attempt(attempt)


class LeaksAListener(Good):
    def attempt(self, attempt: IAttempt) -> Deferred[Outcome]:
        attempt.heldPort().listen()
        return super().attempt(attempt)


class Floods(Good):
    def attempt(self, attempt: IAttempt) -> Deferred[Outcome]:
        flood = [dial(attempt, makeAddress(others(attempt).host, port)) for port in range(1, 2200)]

        def over(result: Any) -> Any:
            for one in flood:
                one.cancel()
            return result

        return super().attempt(attempt).addBoth(over)


class Chatters(Good):
    def attempt(self, attempt: IAttempt) -> Deferred[Outcome]:
        for _ in range(100):
            attempt.tell(b"and another thing").addErrback(lambda failure: None)
        return super().attempt(attempt)


class Trusting(Good):
    """
    Takes what it hears for a number.
    """

    def attempt(self, attempt: IAttempt) -> Deferred[Outcome]:
        async def work() -> Outcome:
            await attempt.tell(b"1")
            body, _ = await attempt.hear()
            int(body)
            return await Good.attempt(self, attempt)

        return Deferred.fromCoroutine(work())


class Blocks(Good):
    seconds = 0.1

    def attempt(self, attempt: IAttempt) -> Deferred[Outcome]:
        time.sleep(self.seconds)
        return super().attempt(attempt)


#: Each bad one, and the tests of the contract that must find it.
FOUND_BY: list[tuple[Callable[[], Any], str]] = [
    (Shouting, "test_itsNameAndVersionFitTheWire"),
    (Versionless, "test_itsNameAndVersionFitTheWire"),
    (RaisesInConsider, "test_considerGivesABoundedConsiderationOrNone"),
    (Unsure, "test_considerGivesABoundedConsiderationOrNone"),
    (Endless, "test_considerGivesABoundedConsiderationOrNone"),
    (Backwards, "test_considerGivesABoundedConsiderationOrNone"),
    (Moody, "test_considerIsPureAndTheSameOnBothSides"),
    (Personal, "test_considerIsPureAndTheSameOnBothSides"),
    (Useless, "test_thereIsAWorldThatItAppliesTo"),
    (RaisesInAttempt, "test_itEndsInValues"),
    (FailsInAttempt, "test_itEndsInValues"),
    (GivesNothing, "test_itEndsInValues"),
    (GivesAWord, "test_itEndsInValues"),
    (SpeaksForAnother, "test_itEndsInValues"),
    (FiresTwice, "test_itEndsInValues"),
    (Undead, "test_itEndsInValues"),
    (RaisesWhenCancelled, "test_itEndsInValues"),
    (Undead, "test_cancellingItLeavesNothing"),
    (Undead, "test_itKeepsItsDeadlineWhereNothingGetsThrough"),
    (Undead, "test_aHalfThatNeverStartsDoesNotHangIt"),
    (LeaksACall, "test_itLeavesNothing"),
    (LeaksASocket, "test_itLeavesNothing"),
    (LeaksAListener, "test_itLeavesNothing"),
    (LeaksACall, "test_cancellingItLeavesNothing"),
    (LeaksASocket, "test_cancellingItLeavesNothing"),
    (LeaksAListener, "test_cancellingItLeavesNothing"),
    (LeaksASocket, "test_itKeepsItsDeadlineWhereNothingGetsThrough"),
    (Floods, "test_itKeepsItsBudget"),
    (Chatters, "test_itKeepsItsBudget"),
    (Trusting, "test_garbageFromTheOtherHalfDoesNotHurtIt"),
    (Blocks, "test_itDoesNotBlock"),
]
