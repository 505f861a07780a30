"""
Leases of router ports, kept for as long as somebody wants them.

All of it happens in the background: the gateway is looked at every few seconds, asked in every way
that there is, and asked again rarely if it does not answer. What it lends is renewed at half its
life, made anew when the router has forgotten it, and given back in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from punchd.errors import PortTaken, PunchdError, Refused, Unreachable
from punchd.interfaces import IPortMapper
from punchd.nat.gateway import Gateway
from punchd.values.addresses import Scope, scopeOf, showAddress
from punchd.values.leases import Lease

_log = Logger()

#: Seconds between two looks at which gateway is ours: a file is read.
GLANCE = 5.0

#: Seconds until a router that lends no ports is asked again.
RETRY = 600.0

#: Seconds between two questions whether the leases still stand: a restart of the router is noticed
#: by then.
CHECK = 60.0

#: Questions in a row that a router may leave without an answer.
_MOST_SILENCES = 3

#: Seconds until a lease that was refused is asked for again: the first wait, and the longest.
_FIRST_WAIT = 30.0
_LONGEST_WAIT = 600.0

#: Seconds for which leases are asked (RFC 6886, 3.3 recommends it).
LIFETIME = 7200.0

#: Renewed after this share of its life (RFC 6887, 11.2.1), but not more often than this.
_EARLIEST, _LATEST = 1 / 2, 5 / 8
_LEAST_PAUSE = 2.0

#: Ports that are tried where a router does not choose a free one by itself.
_MOST_CONFLICTS = 5
_LOWEST, _HIGHEST = 20000, 65535

#: Seconds for giving everything back when the peer ends.
_FAREWELL = 2.0


@define(eq=False)
class Wish:
    """
    One port of this host that somebody wants to be dialled at the router; made by L{Leases.want}.

    @ivar internal: the port.
    @ivar wanted: the port on the router, 0 for any.
    @ivar lease: what the router has lent; C{None} while there is nothing.
    @ivar problem: why there is nothing.
    """

    internal: int
    wanted: int
    _leases: Leases
    _changed: Callable[[], None]
    lease: Lease | None = field(default=None, init=False)
    problem: str = field(default="", init=False)
    _mapper: IPortMapper | None = field(default=None, init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)
    _making: Deferred[None] | None = field(default=None, init=False)
    _again: bool = field(default=False, init=False)
    _refusals: int = field(default=0, init=False)
    _last: int = field(default=0, init=False)

    def make(self) -> None:
        """
        Make the lease, or renew it, now.
        """
        self._stopTimer()
        if self._making is not None:
            self._again = True
            return
        making = self._making = Deferred.fromCoroutine(self._make())
        making.addErrback(_broken)
        making.addBoth(self._made)

    def _made(self, result: object) -> None:
        self._making = None
        if self._again:
            self._again = False
            self.make()

    async def _make(self) -> None:
        problems = []
        # Whoever has lent it renews it.
        ordered = sorted(self._leases.mappers, key=lambda mapper: mapper is not self._mapper)
        for mapper in ordered:
            try:
                lease = await self._obtain(mapper)
            except PunchdError as error:
                problems.append(f"{mapper.name}: {error}")
            else:
                self._mapper, self._refusals = mapper, 0
                self._set(lease)
                self._plan(lease)
                return
        self._set(None, "; ".join(problems) or self._leases.problem)
        if ordered:
            wait = min(_FIRST_WAIT * 2**self._refusals, _LONGEST_WAIT)
            self._refusals += 1
            self._startTimer(wait * self._leases.random.uniform(0.8, 1.2))

    async def _obtain(self, mapper: IPortMapper) -> Lease:
        wanted = self.wanted or self._last
        renewing = self.lease is not None and mapper is self._mapper
        if renewing:
            assert self.lease is not None
            wanted = self.lease.external.port
        for left in reversed(range(_MOST_CONFLICTS)):
            try:
                lease: Lease = await mapper.lease(self.internal, wanted, LIFETIME)
            except PortTaken:
                if not left:
                    raise
                wanted = self._leases.random.randint(_LOWEST, _HIGHEST)
            except Refused:
                # It may have another lease for us, if not this one any more.
                if not renewing or not left:
                    raise
                renewing, wanted = False, 0
            else:
                why = self._whyUseless(lease)
                if not why:
                    return lease
                mapper.release(lease).addErrback(lambda _: None)
                raise Refused(why)
        raise AssertionError("the last try returns or raises")

    def _whyUseless(self, lease: Lease) -> str:
        if lease.internal != self.internal:
            return f"the router has lent port {lease.internal} of this host, which nobody wanted"
        if scopeOf(lease.external) is not Scope.GLOBAL:
            return (
                f"the router's own outside address {lease.external.host} is private: another NAT "
                "stands before it (double NAT)"
            )
        return ""

    def _plan(self, lease: Lease) -> None:
        life = min(lease.lifetime, LIFETIME) * self._leases.random.uniform(_EARLIEST, _LATEST)
        self._startTimer(max(life, _LEAST_PAUSE))

    def forget(self, problem: str) -> None:
        """
        The lease is gone: its router, or its memory.
        """
        self._stopTimer()
        if self._making is not None:
            making, self._making, self._again = self._making, None, False
            making.cancel()
        self._mapper, self._refusals = None, 0
        self._set(None, problem)

    def _set(self, lease: Lease | None, problem: str = "") -> None:
        before, self.lease = self.lease, lease
        same = before == lease or (
            before is not None
            and lease is not None
            and (before.external, before.by) == (lease.external, lease.by)
        )
        news = problem != self.problem
        self.problem = problem
        if lease is not None:
            self._last = lease.external.port
        if same and not news:
            return
        if not same and lease is not None:
            other = f", as {self.wanted} is not to be had"
            self._leases.note(
                f"the router lends us {showAddress(lease.external)} by {lease.by} for port "
                f"{self.internal} of this host"
                + (other if self.wanted not in (0, lease.external.port) else "")
            )
        elif not same:
            assert before is not None
            self._leases.note(f"lost {showAddress(before.external)} on the router: {problem}")
        elif problem:
            self._leases.note(f"no port on the router for port {self.internal}: {problem}")
        if not same:
            self._changed()

    async def check(self) -> None:
        """
        Is the lease still there?

        @raise PunchdError: when the router does not say.
        """
        lease, mapper = self.lease, self._mapper
        if lease is None or mapper is None or self._making is not None:
            return
        holds = await mapper.holds(lease)
        if not holds and self.lease is lease:
            self._leases.note(
                f"the router has forgotten {showAddress(lease.external)}; asking it again"
            )
            self.make()

    def drop(self) -> Deferred[None]:
        """
        Nobody wants it any more. Fires when the router has it back, or does not answer.
        """
        self._leases.unwant(self)
        lease, mapper = self.lease, self._mapper
        self._changed = lambda: None
        self._stopTimer()
        making, self._making, self._again = self._making, None, False
        self.lease = None
        if making is not None:
            making.cancel()
        if lease is None or mapper is None:
            return succeed(None)
        returning: Deferred[Any] = mapper.release(lease)
        returning.addTimeout(_FAREWELL, self._leases.clock)
        return returning.addCallbacks(
            lambda _: self._leases.note(f"gave {showAddress(lease.external)} back to the router"),
            lambda failure: self._leases.note(
                f"could not give {showAddress(lease.external)} back: it ends by itself"
            ),
        )

    def _startTimer(self, seconds: float) -> None:
        self._stopTimer()
        self._timer = self._leases.clock.callLater(seconds, self._timeCame)

    def _timeCame(self) -> None:
        self._timer = None
        self.make()

    def _stopTimer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None


class Leases(Service):
    """
    Made with the peer; runs as long as it does.

    @ivar mappers: ways in which the router lends ports, best first; empty if there is none.
    @ivar problem: why there is none.
    @ivar gateway: the router, if one is known.
    """

    def __init__(
        self,
        clock: IReactorTime,
        random: Random,
        find: Callable[[], Gateway],
        mappersFor: Callable[[Gateway], Sequence[IPortMapper]],
        note: Callable[[str], None],
    ) -> None:
        """
        @param find: who our gateway is now; raises L{Unreachable} when there is none.
        @param mappersFor: all ways of asking it, best first.
        @param note: takes a line for the log.
        """
        self.clock = clock
        self.random = random
        self.note = note
        self.mappers: list[IPortMapper] = []
        self.problem = "the router has not been asked yet"
        self.gateway: Gateway | None = None
        self._find = find
        self._mappersFor = mappersFor
        self._wishes: list[Wish] = []
        self._looking = LoopingCall(self._look)
        self._looking.clock = clock
        self._working: Deferred[None] | None = None
        self._askAt = 0.0
        self._silences = 0

    def startService(self) -> None:
        super().startService()
        if self._wishes:
            self._start()

    def _start(self) -> None:
        if not self._looking.running:
            # Not in this turn: whoever starts has better things to do.
            self._looking.start(GLANCE, now=False)
            self.clock.callLater(0, self._look)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        if self._looking.running:
            self._looking.stop()
        self._stopWorking()
        returned = DeferredList([wish.drop() for wish in list(self._wishes)])
        return returned.addCallback(lambda _: None)

    def want(self, internal: int, changed: Callable[[], None], external: int = 0) -> Wish:
        """
        Have a port of this host lent by the router, now and as long as this runs.

        @param changed: called when the lease has changed, or is gone.
        @param external: the port that is wanted on the router; 0 for any.
        """
        wish = Wish(internal, external, self, changed)
        wish.problem = self.problem
        self._wishes.append(wish)
        if self.running:
            self._start()
            if self.mappers:
                wish.make()
        return wish

    def unwant(self, wish: Wish) -> None:
        """
        That one is over; for L{Wish.drop}.
        """
        if wish in self._wishes:
            self._wishes.remove(wish)

    def _look(self) -> None:
        if not self.running or not self._wishes:
            return
        now = self.clock.seconds()
        problem = ""
        gateway: Gateway | None = None
        try:
            gateway = self._find()
        except Unreachable as error:
            problem = str(error)
        if gateway != self.gateway or (gateway is None and problem != self.problem):
            self._stopWorking()
            self.gateway = gateway
            self._forget(problem or "the gateway is another one now")
            self._askAt = now
        if gateway is None or self._working is not None or now < self._askAt:
            return
        working = self._check() if self.mappers else self._ask(gateway)
        deferred = self._working = Deferred.fromCoroutine(working)
        deferred.addErrback(_broken)
        deferred.addCallback(lambda _: self._worked(deferred))

    def _worked(self, working: Deferred[None]) -> None:
        if self._working is working:
            self._working = None

    def _stopWorking(self) -> None:
        working, self._working = self._working, None
        if working is not None:
            working.cancel()

    def _forget(self, problem: str) -> None:
        self.mappers, self.problem, self._silences = [], problem, 0
        for wish in list(self._wishes):
            wish.forget(problem)

    async def _ask(self, gateway: Gateway) -> None:
        mappers = list(self._mappersFor(gateway))
        asked: list[Deferred[Any]] = [mapper.ask() for mapper in mappers]
        results = await DeferredList(asked, consumeErrors=True)
        told = zip(mappers, results, strict=True)
        found, problems = [], []
        for mapper, (isThere, result) in told:
            if isThere:
                found.append(mapper)
            else:
                problems.append(f"{mapper.name}: {result.getErrorMessage()}")
                if result.check(PunchdError, CancelledError) is None:
                    _log.failure("while asking the router", result)
        if not found:
            self._askAt = self._after(RETRY)
            self._forget(
                f"the router at {gateway.host} lends no ports ({'; '.join(problems)})"
                if problems
                else f"nothing is known to ask the router at {gateway.host} by"
            )
            return
        self._askAt = self._after(CHECK)
        self.mappers, self.problem = found, ""
        names = ", ".join(mapper.name for mapper in found)
        self.note(f"the router at {gateway.host} can be asked for ports by {names}")
        for wish in list(self._wishes):
            wish.make()

    async def _check(self) -> None:
        try:
            for wish in list(self._wishes):
                await wish.check()
        except PunchdError as error:
            self._silences += 1
            if self._silences >= _MOST_SILENCES:
                self._forget(str(error))
                return
        else:
            self._silences = 0
        self._askAt = self._after(CHECK)

    def _after(self, seconds: float) -> float:
        return self.clock.seconds() + seconds * self.random.uniform(0.8, 1.2)


def _broken(failure: Failure) -> None:
    if failure.check(CancelledError) is None:
        _log.failure("while asking the router", failure)
