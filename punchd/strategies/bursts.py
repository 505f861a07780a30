"""
Bursts of guesses, one after the other, of which the first that connects ends all: what the
strategies that guess ports have in common.
"""

from __future__ import annotations

from attrs import define, evolve, field
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from punchd.values.nat import Filtering
from punchd.values.outcomes import Outcome, Result
from punchd.values.parties import Party


def letsIn(party: Party) -> bool:
    """
    Whether that side is known to let in who comes from another port than it has dialled: then
    nobody needs to guess.
    """
    return party.offer.nat.filtering in (
        Filtering.ENDPOINT_INDEPENDENT,
        Filtering.ADDRESS_DEPENDENT,
    )


@define(eq=False)
class Bursts:
    """
    Made for one attempt of a strategy, which ends it.
    """

    _clock: IReactorTime
    _running: list[Deferred[Outcome]] = field(factory=list, init=False)
    _best: Outcome | None = field(default=None, init=False)
    _failure: Failure | None = field(default=None, init=False)
    _waiting: Deferred[None] | None = field(default=None, init=False)
    _alarm: IDelayedCall | None = field(default=None, init=False)
    _waitsForEnd: bool = field(default=False, init=False)

    def add(self, burst: Deferred[Outcome]) -> None:
        """
        One more is under way.
        """
        self._running.append(burst)
        burst.addCallbacks(
            lambda outcome: self._ended(burst, outcome),
            lambda failure: self._failed(burst, failure),
        )

    def wait(self, seconds: float) -> Deferred[bool]:
        """
        Let time go by.

        @return: fires with C{True} as soon as a burst has connected, with C{False} when time is up.
        """
        if seconds <= 0:
            return maybeDeferred(self._isConnected)
        self._alarm = self._clock.callLater(seconds, self._wake)
        return self._wait()

    def waitForEnd(self) -> Deferred[bool]:
        """
        Wait until one has connected, or all are over.
        """
        self._waitsForEnd = True
        return self._wait()

    def _wait(self) -> Deferred[bool]:
        self._waiting = Deferred(lambda _: self._stopWaiting())
        done = self._waiting.addCallback(lambda _: self._isConnected())
        self._wakeIfDone()
        return done

    def _isConnected(self) -> bool:
        if self._failure is not None:
            self._failure.raiseException()
        return self._best is not None and self._best.result is Result.CONNECTED

    def outcome(self, name: str, seconds: float) -> Outcome:
        """
        What came of all of them.
        """
        if self._best is None:
            return Outcome(name, Result.NOT_POSSIBLE, seconds)
        return evolve(self._best, strategy=name, seconds=seconds)

    def cancel(self) -> None:
        """
        End those that still run.
        """
        for burst in list(self._running):
            burst.cancel()

    def _ended(self, burst: Deferred[Outcome], outcome: Outcome) -> None:
        self._running.remove(burst)
        best = self._best
        if best is None or best.result is not Result.CONNECTED:
            # The later one knows of all sockets before.
            self._best = outcome
            if outcome.result is Result.CONNECTED:
                self.cancel()
        self._wakeIfDone()

    def _failed(self, burst: Deferred[Outcome], failure: Failure) -> None:
        self._running.remove(burst)
        if failure.check(CancelledError) is None:
            self._failure = failure
        self._wakeIfDone()

    def _wakeIfDone(self) -> None:
        isConnected = self._best is not None and self._best.result is Result.CONNECTED
        isOver = self._waitsForEnd and not self._running
        if isConnected or isOver or self._failure is not None:
            self._wake()

    def _wake(self) -> None:
        waiting = self._waiting
        self._stopWaiting()
        if waiting is not None:
            waiting.callback(None)

    def _stopWaiting(self) -> None:
        self._waiting = None
        if self._alarm is not None and self._alarm.active():
            self._alarm.cancel()
        self._alarm = None
