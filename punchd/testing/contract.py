"""
What any strategy must keep to, as tests: subclass L{StrategyContract}, say how your strategy is
made, and let pytest run it::

    class TestDoorstep(StrategyContract):
        def makeStrategy(self):
            return Doorstep()

Everything runs in the in-memory internet, with punchd's own machinery around the strategy.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from attrs import define, field
from hypothesis import given, settings
from twisted.internet.defer import Deferred
from zope.interface import implementer
from zope.interface.verify import verifyObject

from punchd.interfaces import IAttempt, IStrategy
from punchd.server.introductions import MOST_MESSAGES
from punchd.strategies.planning import LAST_DEADLINE
from punchd.testing.internet import Introduced, Introduction
from punchd.testing.situations import situations
from punchd.testing.worlds import WORLDS, World
from punchd.values.outcomes import Outcome, Result
from punchd.values.parties import Situation
from punchd.values.peers import checkedName
from punchd.values.plans import Consideration
from punchd.wire.commands import MOST_BODY

#: What one side of an introduction may cost: sockets that dial, and those of them that have no
#: answer yet.
MOST_DIALLED = 2000
MOST_HALF_OPEN = 512

#: Seconds of real time that one call of a strategy may take: as long as it runs, the whole peer
#: waits. Far more than is good, as machines that run tests are busy.
MOST_SECONDS = 0.5

#: Seconds after which a connection is no longer wanted, counted from the GO: in the middle of
#: nothing, of a first SYN, of an answer, of TLS, of later rounds.
MOMENTS = (0.0, 0.01, 0.03, 0.06, 0.11, 0.2, 0.5, 1.1, 2.3)

#: Seconds that the callee waits for an election, after its plan is over.
_GRACE = 1.5

_RACES = 3


class StrategyContract:
    """
    The contract of L{IStrategy}, as test methods. A subclass gives L{makeStrategy}; its name begins
    with C{Test}, so that pytest finds it.

    @cvar worlds: where the strategy is tried; where it does not apply, nothing is tried.
    @cvar mostWorlds: in how many of these the longer tests run it.
    """

    worlds: ClassVar[Sequence[World]] = WORLDS
    mostWorlds: ClassVar[int] = 3

    def makeStrategy(self) -> IStrategy:
        """
        A new object of the strategy, as each peer has one of its own.
        """
        raise NotImplementedError("say how your strategy is made")

    # What it says.

    def test_itIsAStrategy(self) -> None:
        """
        It provides C{IStrategy}, with all its methods and attributes.
        """
        verifyObject(IStrategy, self.makeStrategy())

    def test_itsNameAndVersionFitTheWire(self) -> None:
        """
        Its name is a lower-case word, and its version a small number.
        """
        strategy = self.makeStrategy()
        assert checkedName(strategy.name) == strategy.name.lower()
        assert isinstance(strategy.version, int)
        assert 0 < strategy.version < 1 << 16

    def test_considerGivesABoundedConsiderationOrNone(self) -> None:
        """
        Whatever two peers say of themselves, C{consider} does not raise, and what it asks for can
        be planned.
        """
        strategy = self.makeStrategy()

        def check(situation: Situation) -> None:
            said = strategy.consider(situation)
            if said is None:
                return
            assert isinstance(said, Consideration)
            assert math.isfinite(said.lead)
            assert 0 <= said.lead <= LAST_DEADLINE
            assert 0 < said.patience <= LAST_DEADLINE

        self._forAllSituations(strategy, check)

    def test_considerIsPureAndTheSameOnBothSides(self) -> None:
        """
        C{consider} gives the same for the same situation: each time, on both sides, and whatever it
        has considered before.
        """
        strategy, other = self.makeStrategy(), self.makeStrategy()

        def check(situation: Situation) -> None:
            there = copy.deepcopy(situation)
            said = strategy.consider(situation)
            assert situation == there
            assert said == strategy.consider(situation) == other.consider(there)

        self._forAllSituations(strategy, check)

    def test_thereIsAWorldThatItAppliesTo(self) -> None:
        """
        It applies to one of its worlds at least, so that there is something to test.
        """
        assert self._applicable(), "it applies to none of its worlds, so nothing else is tested"

    # What it does.

    def test_itEndsInValues(self) -> None:
        """
        Each attempt fires with an C{Outcome} of its own name, and does not raise.
        """
        for world in self._applicable():
            self._checkValues(world, *self._both())

    def test_itLeavesNothing(self) -> None:
        """
        After it, no socket is open that it has opened, and no delayed call is pending.
        """
        for world in self._applicable():
            found = _introduce(world, *self._both())
            assert found.left == (), f"{world}: left open: {found.left}"

    def test_cancellingItLeavesNothing(self) -> None:
        """
        The same when it is cancelled, at whatever moment.
        """
        for world in self._few():
            for moment in MOMENTS:
                caller, callee = self._both()
                introduction = _begin(world, caller, callee)
                _letGoBy(introduction, moment)
                found = introduction.end()
                what = f"{world}, cancelled after {moment} s"
                assert found.left == (), f"{what}: left open: {found.left}"
                _checkOutcomes(what, found)

    def test_itKeepsItsDeadlineWhereNothingGetsThrough(self) -> None:
        """
        Where no packet reaches the other side, it ends in time, and dials no more.
        """
        for world in self._few():
            caller, callee = self._both()
            internet, one, other = world.build()
            internet.keepApart(one, other)
            introduction = internet.begin(one, other, [caller], [callee])
            isOver = introduction.run(LAST_DEADLINE + _GRACE)
            assert isOver, f"{world}: it goes on after {LAST_DEADLINE} s"
            dialled = (one.stack.dialled, other.stack.dialled)
            internet.run(limit=5.0)
            later = (one.stack.dialled, other.stack.dialled)
            assert dialled == later, f"{world}: it dials when it is over"
            found = introduction.end()
            assert found.left == (), f"{world}: left open: {found.left}"
            _checkOutcomes(f"{world}, apart", found)
            _checkBudget(world, found)

    def test_itKeepsItsBudget(self) -> None:
        """
        It dials no more sockets, has no more of them waiting at a time, and sends no more messages
        than an introduction may.
        """
        for world in self._few():
            _checkBudget(world, _introduce(world, *self._both()))

    def test_aHalfThatNeverStartsDoesNotHangIt(self) -> None:
        """
        When the other half does nothing, it ends in time and leaves nothing.
        """
        self._besideAnotherHalf(_Silent)

    def test_garbageFromTheOtherHalfDoesNotHurtIt(self) -> None:
        """
        When the other half sends garbage, it ends in values and in time, and leaves nothing.
        """
        self._besideAnotherHalf(_Babbling)

    def test_itDoesNotBlock(self) -> None:
        """
        No call of it takes long: as long as it runs, the whole peer waits.
        """
        for world in self._few():
            seconds = []
            for _ in range(_RACES):
                caller, callee = self._both()
                _introduce(world, caller, callee)
                seconds.append(max(caller.longest, callee.longest))
            assert min(seconds) < MOST_SECONDS, (
                f"{world}: one call of it took {min(seconds):.2f} s, and all else has to wait"
            )

    # How that is found out.

    def _both(self) -> tuple[_Watched, _Watched]:
        return _Watched(self.makeStrategy()), _Watched(self.makeStrategy())

    def _applicable(self) -> list[World]:
        return [world for world in self.worlds if self._applies(world)]

    def _applies(self, world: World) -> bool:
        # Only what it says counts here.
        halves = (_Silent(self.makeStrategy()), _Silent(self.makeStrategy()))
        introduction = _begin(world, *halves)
        _letGoBy(introduction, 0.0)
        return bool(introduction.end().plan.attempts)

    def _few(self) -> list[World]:
        return self._applicable()[: self.mostWorlds]

    def _forAllSituations(self, strategy: IStrategy, check: Callable[[Situation], None]) -> None:
        drawn = situations(strategy.name, strategy.version)
        settings(deadline=None)(given(drawn)(check))()

    def _checkValues(self, world: World, caller: _Watched, callee: _Watched) -> None:
        found = _introduce(world, caller, callee)
        _checkOutcomes(str(world), found)
        for half in (caller, callee):
            for outcome in half.outcomes:
                assert isinstance(outcome, Outcome), f"{world}: it gave {outcome!r}"
                assert outcome.strategy == caller.name

    def _besideAnotherHalf(self, makeOther: Callable[[IStrategy], IStrategy]) -> None:
        for world in self._few():
            for isCaller in (True, False):
                own = _Watched(self.makeStrategy())
                other = makeOther(self.makeStrategy())
                halves = (own, other) if isCaller else (other, own)
                introduction = _begin(world, *halves)
                isOver = introduction.run(LAST_DEADLINE + 2 * _GRACE)
                found = introduction.end()
                side = "caller" if isCaller else "callee"
                what = f"{world}, with a {makeOther.__doc__ or ''}".strip().rstrip(".")
                assert isOver, f"{what}: as {side} it never ends"
                mine = found.caller if isCaller else found.callee
                assert mine.left == (), f"{what}: as {side} it leaves open: {mine.left}"
                _checkOutcomes(what, found)


def _begin(world: World, caller: IStrategy, callee: IStrategy) -> Introduction:
    internet, one, other = world.build()
    return internet.begin(one, other, [caller], [callee])


def _introduce(world: World, caller: IStrategy, callee: IStrategy) -> Introduced:
    introduction = _begin(world, caller, callee)
    introduction.run()
    return introduction.end()


def _letGoBy(introduction: Introduction, seconds: float) -> None:
    """
    Wait until both have had the GO, and so long after that.
    """
    introduction.runToGo()
    introduction.run(seconds)


def _checkOutcomes(what: str, found: Introduced) -> None:
    for outcome in (*found.caller.outcomes, *found.callee.outcomes):
        isBug = outcome.result is Result.FAILED and outcome.detail.startswith("a bug")
        assert not isBug, f"{what}: {outcome.detail}"


def _checkBudget(world: World, found: Introduced) -> None:
    for side, half in (("caller", found.caller), ("callee", found.callee)):
        assert half.dialled <= MOST_DIALLED, f"{world}: the {side} dials {half.dialled} times"
        assert half.mostHalfOpen <= MOST_HALF_OPEN, (
            f"{world}: the {side} has {half.mostHalfOpen} sockets without an answer"
        )
    told = found.caller.told + found.callee.told
    assert told <= MOST_MESSAGES, f"{world}: its halves send each other {told} messages"


@implementer(IStrategy)
@define(eq=False)
class _Watched:
    """
    A strategy, and what can be seen of it from outside.

    @ivar outcomes: what its attempts fired with.
    @ivar longest: the seconds of real time that its longest call took.
    """

    _strategy: IStrategy
    outcomes: list[object] = field(factory=list)
    longest: float = 0.0

    @property
    def name(self) -> str:
        name: str = self._strategy.name
        return name

    @property
    def version(self) -> int:
        version: int = self._strategy.version
        return version

    def consider(self, situation: Situation) -> Consideration | None:
        said: Consideration | None = self._timed(self._strategy.consider, situation)
        return said

    def attempt(self, attempt: IAttempt) -> Deferred[Outcome]:
        running = self._timed(self._strategy.attempt, attempt)
        assert isinstance(running, Deferred), f"attempt() gives {running!r}, which is no Deferred"
        return running.addBoth(self._ended)

    def _ended(self, result: Any) -> Any:
        if not hasattr(result, "getErrorMessage"):
            self.outcomes.append(result)
        return result

    def _timed(self, call: Callable[..., Any], *arguments: Any) -> Any:
        began = time.perf_counter()
        try:
            return call(*arguments)
        finally:
            self.longest = max(self.longest, time.perf_counter() - began)


@implementer(IStrategy)
class _Silent:
    """
    half that does nothing.
    """

    def __init__(self, strategy: IStrategy) -> None:
        self.name, self.version = strategy.name, strategy.version
        self._strategy = strategy

    def consider(self, situation: Situation) -> Consideration | None:
        said: Consideration | None = self._strategy.consider(situation)
        return said

    def attempt(self, attempt: IAttempt) -> Deferred[Outcome]:
        return Deferred()


class _Babbling(_Silent):
    """
    half that sends garbage.
    """

    def attempt(self, attempt: IAttempt) -> Deferred[Outcome]:
        for body in (b"", b"\0", b"port", b"ready", b"\xff" * MOST_BODY, b"{}", b"-1", b"9" * 99):
            attempt.tell(body).addErrback(lambda failure: None)
        attempt.freshPort().addCallback(
            lambda port: attempt.tell(b"\xfe" * 40, port).addErrback(lambda failure: None)
        ).addErrback(lambda failure: None)
        return Deferred()
