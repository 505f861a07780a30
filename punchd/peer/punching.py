"""
One introduction, on one side of it: the plan runs, strategies race, one connection wins.

Data's way: a planned attempt starts, its strategy races sockets, each connection authenticates
itself, the caller elects the first that has, and every other attempt and connection is ended. The
callee does the same, but takes the connection on which the caller's election arrives: a JOIN.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, cast
from typing import Protocol as Typing

from attrs import define, evolve, field
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from punchd.errors import NoPath, PunchdError
from punchd.interfaces import IStrategy
from punchd.link.path import Path
from punchd.link.punched import PunchedConnection
from punchd.link.tickets import Ticket
from punchd.net.held import HeldPort
from punchd.peer.attempts import MOST_RETRIES, Attempt
from punchd.peer.guesses import Allotment
from punchd.strategies.planning import tellIfSlow
from punchd.values.addresses import Address, showAddress
from punchd.values.outcomes import Outcome, Result, Try, Way
from punchd.values.parties import LocalAddressPolicy, Party, Situation
from punchd.values.plans import Plan, PlannedAttempt
from punchd.wire.frames import Join
from punchd.wire.preamble import Side

_log = Logger()

#: The callee waits a little longer than the plan, for an election that is on its way.
GRACE = 1.0

#: Messages of a strategy that has not started here yet; more than that is an attack.
_MOST_EARLY = 64


class Surroundings(Typing):
    """
    What a punch needs of the server that introduced it.

    @ivar leased: the port that our router lets anybody in to, if it has leased one.
    """

    leased: HeldPort | None

    def freshPort(self) -> Deferred[HeldPort]:
        """A port that the server has just observed."""

    def ordinaryPort(self) -> HeldPort:
        """A port that nobody has observed."""

    def portSeenAt(self, observed: Address) -> HeldPort | None:
        """Our port that the server has observed there."""

    def release(self, port: HeldPort) -> None:
        """A port of either kind is not needed any more."""

    def tell(
        self, session: bytes, strategy: str, body: bytes, token: bytes | None
    ) -> Deferred[dict[str, Any]]:
        """Pass a message to the other half."""


@define(eq=False)
class _Run:
    """
    One planned attempt, from its start to its outcome.
    """

    planned: PlannedAttempt
    attempt: Attempt
    began: float
    deadline: IDelayedCall | None = None
    running: Deferred[Any] | None = None
    timedOut: bool = False
    isOver: bool = False


@define(eq=False)
class Punch:
    """
    Made when an introduction's GO arrives; over when a path has won or the plan is.

    @ivar port: our port that both offers name.
    @ivar surroundings: the server's connection.
    @ivar policy: whom we send SYNs to at all.
    @ivar note: takes a line for the timeline.
    @ivar plan: what will be tried, and when.
    @ivar allotment: what guessing ports may cost.
    @ivar outcomes: of the strategies that are done, in that order.
    @ivar wonBy: the name of the strategy that won.
    @ivar connectedAt: when the winner's TCP connection was made, on the clock.
    """

    clock: IReactorTime
    random: Random
    ticket: Ticket
    situation: Situation
    policy: LocalAddressPolicy
    port: HeldPort
    surroundings: Surroundings
    note: Callable[[str], None]
    _strategies: dict[str, IStrategy]
    plan: Plan
    allotment: Allotment = field(factory=Allotment)
    outcomes: list[Outcome] = field(factory=list, init=False)
    wonBy: str | None = field(default=None, init=False)
    connectedAt: float | None = field(default=None, init=False)
    _began: float = field(default=0.0, init=False)
    _starts: list[IDelayedCall] = field(factory=list, init=False)
    _grace: IDelayedCall | None = field(default=None, init=False)
    _runs: dict[str, _Run] = field(factory=dict, init=False)
    _left: int = field(default=0, init=False)
    _connections: list[PunchedConnection] = field(factory=list, init=False)
    _strategyOf: dict[Path, str] = field(factory=dict, init=False)
    _result: Deferred[Path] | None = field(default=None, init=False)
    _isOver: bool = field(default=False, init=False)
    _early: list[tuple[str, bytes, Address | None]] = field(factory=list, init=False)

    @property
    def other(self) -> Party:
        """
        The other side.
        """
        isCaller = self.ticket.side is Side.CALLER
        return self.situation.callee if isCaller else self.situation.caller

    @property
    def own(self) -> Party:
        """
        This side.
        """
        isCaller = self.ticket.side is Side.CALLER
        return self.situation.caller if isCaller else self.situation.callee

    @property
    def seconds(self) -> float:
        """
        Since the GO.
        """
        return self.clock.seconds() - self._began

    def run(self) -> Deferred[Path]:
        """
        Run the plan.

        @return: fires with the elected path, which the caller has yet to join.
        @raise NoPath: when there is none.
        """
        self._began = self.clock.seconds()
        result: Deferred[Path] = Deferred(lambda _: self._finish())
        self._result = result
        self._left = len(self.plan.attempts)
        self.note(f"GO; the plan: {self.plan.line() or self.plan.reason}")
        for planned in self.plan.attempts:
            if planned.start <= 0:
                self._start(planned)
            else:
                self._starts.append(self.clock.callLater(planned.start, self._start, planned))
        self._failIfDone()
        return result

    def _start(self, planned: PlannedAttempt) -> None:
        if self._isOver:
            return
        strategy = self._strategies[planned.strategy]
        run = _Run(planned, Attempt(planned.strategy, self), self.clock.seconds())
        self._runs[planned.strategy] = run
        wait = planned.deadline - planned.start
        run.deadline = self.clock.callLater(wait, self._deadlinePassed, run)
        for name, body, observed in self._early:
            if name == planned.strategy:
                run.attempt.told(body, observed)
        # Other people's code: it may raise, or return what is no Deferred.
        run.running = maybeDeferred(
            cast("Callable[[Attempt], object]", strategy.attempt), run.attempt
        )
        tellIfSlow(planned.strategy, "attempt", self.clock.seconds() - run.began)
        run.running.addCallbacks(
            lambda outcome: self._ended(run, outcome),
            lambda failure: self._ended(run, self._outcomeOfFailure(run, failure)),
        )

    def _deadlinePassed(self, run: _Run) -> None:
        run.deadline = None
        run.timedOut = True
        self._cancel(run)

    def _cancel(self, run: _Run) -> None:
        detail = "a bug in the strategy: it goes on although it was cancelled"
        try:
            if run.running is not None:
                run.running.cancel()
        except Exception as error:  # a canceller of its own
            _log.failure("strategy {name} has a bug", name=run.planned.strategy)
            detail = f"a bug in the strategy: {type(error).__name__} when it was cancelled: {error}"
        if not run.isOver:
            # Nobody waits for a strategy that goes on all the same.
            seconds = self.clock.seconds() - run.began
            name, tries = run.planned.strategy, run.attempt.tries
            self._ended(run, Outcome(name, Result.FAILED, seconds, tries, detail))

    def _outcomeOfFailure(self, run: _Run, failure: Failure) -> Outcome:
        seconds = self.clock.seconds() - run.began
        name, tries = run.planned.strategy, run.attempt.tries
        if failure.check(CancelledError) is not None:
            if not run.timedOut:
                return Outcome(name, Result.CANCELLED, seconds, tries)
            # What was under way when time was up had no answer until then.
            unanswered = tuple(
                evolve(one, result=Result.TIMED_OUT) if one.result is Result.CANCELLED else one
                for one in tries
            )
            return Outcome(name, Result.TIMED_OUT, seconds, unanswered)
        error = failure.value
        if isinstance(error, PunchdError):
            return Outcome(name, Result.NOT_POSSIBLE, seconds, tries, str(error))
        _log.failure("strategy {name} has a bug", failure, name=name)
        detail = f"a bug in the strategy: {type(error).__name__}: {error}"
        return Outcome(name, Result.FAILED, seconds, tries, detail)

    def _ended(self, run: _Run, outcome: object) -> None:
        if run.isOver:
            return
        run.isOver = True
        if run.deadline is not None:
            run.deadline.cancel()
            run.deadline = None
        name = run.planned.strategy
        if not isinstance(outcome, Outcome):
            seconds = self.clock.seconds() - run.began
            detail = f"a bug in the strategy: it gave {outcome!r:.80} for an outcome"
            outcome = Outcome(name, Result.FAILED, seconds, run.attempt.tries, detail)
        run.attempt.close()
        if self.wonBy == name:
            outcome = Outcome(name, Result.CONNECTED, outcome.seconds, run.attempt.tries)
        self.outcomes.append(outcome)
        self.note(outcome.line())
        self._left -= 1
        self._failIfDone()

    def _failIfDone(self) -> None:
        if self._left > 0 or self._isOver or self._grace is not None:
            return
        if self.ticket.side is Side.CALLEE:
            self._grace = self.clock.callLater(GRACE, self._fail)
        else:
            self._fail()

    def _fail(self) -> None:
        self._grace = None
        result, self._result = self._result, None
        self._finish()
        if result is not None:
            outcomes, planned = tuple(self.outcomes), self.plan.reason
            reason = "" if outcomes else planned or "no strategy that both peers have applies"
            hint = "" if planned else self._whatMayBeBehindIt()
            result.errback(NoPath(self.ticket.who, outcomes, reason, hint, self.plan))

    def _whatMayBeBehindIt(self) -> str:
        theirs = f"{self.ticket.who}'s NAT is"
        symmetric = [
            whose
            for whose, party in (("our NAT is", self.own), (theirs, self.other))
            if party.offer.nat.isSymmetric
        ]
        if not symmetric:
            return ""
        whose = symmetric[0] if len(symmetric) == 1 else "both NATs are"
        return (
            f"{whose} symmetric (every destination sees another port): a leased port (PCP, "
            "NAT-PMP, UPnP) on one side would do, or IPv6 on both"
        )

    # Connections.

    def makeConnection(self, way: Way, remote: IAddress | None) -> PunchedConnection:
        """
        The protocol for a connection of this introduction that is about to be dialled.
        """
        connection = PunchedConnection(self.clock, way, remote, self.ticket)
        self._take(connection)
        return connection

    def accepted(self, connection: PunchedConnection, localPort: int, remote: Address) -> None:
        """
        A connection came in that says it belongs to this introduction.
        """
        self._take(connection)
        strategy, attempt = self._strategyFor(localPort, remote)
        began = self.clock.seconds()

        def tried(result: Result, detail: str = "") -> None:
            one = Try(Way.ACCEPTED, remote, result, self.clock.seconds() - began, detail)
            if attempt is None:
                return
            # Whoever knows the session may come as often as they like.
            if result is Result.CONNECTED or len(attempt.accepted) < MOST_RETRIES:
                attempt.accepted.append(one)

        def settled(connection: PunchedConnection) -> None:
            tried(Result.CONNECTED)
            self.proven(connection, strategy)

        connection.whenSettled().addCallbacks(
            settled, lambda failure: tried(Result.NOT_AUTHENTICATED, failure.getErrorMessage())
        )

    def _strategyFor(self, localPort: int, remote: Address) -> tuple[str, Attempt | None]:
        best = max(
            self._runs.values(),
            key=lambda run: run.attempt.expects(localPort, remote),
            default=None,
        )
        if best is None:
            return "accepted", None
        return best.planned.strategy, best.attempt

    def _take(self, connection: PunchedConnection) -> None:
        self._connections.append(connection)
        connection.path.onJoin = self._joined

    def proven(self, connection: PunchedConnection, strategy: str) -> None:
        """
        A connection has authenticated itself.
        """
        self._strategyOf[connection.path] = strategy
        self.note(
            f"{strategy}: authenticated {self.ticket.who} on a connection "
            f"{connection.way.value} {'to' if connection.way is Way.DIALLED else 'from'} "
            f"{showAddress(connection.remote)}"
        )
        if self._isOver:
            connection.abort()
        elif self.ticket.side is Side.CALLER:
            self.connectedAt = connection.connectedAt
            self._win(connection.path, strategy)

    def _joined(self, path: Path, join: Join) -> None:
        if self._isOver or self.ticket.side is Side.CALLER:
            path.decline("another connection of this introduction has been elected")
        else:
            self._win(path, self._strategyOf.get(path, "accepted"))

    def _win(self, path: Path, strategy: str) -> None:
        self.wonBy = strategy
        self.note(f"{strategy} wins after {self.seconds * 1000:.0f} ms")
        result, self._result = self._result, None
        self._finish(path)
        if result is not None:
            result.callback(path)

    def _finish(self, winner: Path | None = None) -> None:
        self._isOver = True
        self._result = None
        for call in [*self._starts, self._grace]:
            if call is not None and call.active():
                call.cancel()
        for name, run in list(self._runs.items()):
            if run.running is None:
                continue
            if name == self.wonBy:
                # We may be in the middle of its callbacks; it mostly ends by itself now.
                self.clock.callLater(0, self._cancel, run)
            else:
                self._cancel(run)
        for connection in self._connections:
            if connection.path is not winner:
                connection.abort()
        self._connections.clear()

    def told(self, strategy: str, body: bytes, observed: Address | None) -> None:
        """
        The other half of a strategy has sent a message.
        """
        run = self._runs.get(strategy)
        if run is not None:
            run.attempt.told(body, observed)
        elif not self._isOver and len(self._early) < _MOST_EARLY:
            self._early.append((strategy, body, observed))
