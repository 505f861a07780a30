"""
One port that somebody wants a router to lend, from then on until nobody wants it any more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from punchd.errors import PortTaken, PunchdError, Refused, Unreachable
from punchd.interfaces import IPortMapper
from punchd.values.addresses import Scope, makeAddress, scopeOf, showAddress
from punchd.values.leases import Lease

if TYPE_CHECKING:
    from punchd.nat.leases import Leases

_log = Logger()

#: Seconds until a lease that was refused is asked for again: the first wait, and the longest.
_FIRST_WAIT = 30.0
_LONGEST_WAIT = 600.0

#: The wait is the longest by then; a number that grows for days is too large to reckon with.
_MOST_DOUBLINGS = 8

#: Seconds for which leases are asked (RFC 6886, 3.3 recommends it).
LIFETIME = 7200.0

#: Renewed after this share of its life (RFC 6887, 11.2.1), but not more often than this.
_EARLIEST, _LATEST = 1 / 2, 5 / 8
_LEAST_PAUSE = 2.0

#: Ports that are tried where a router does not choose a free one by itself.
_MOST_CONFLICTS = 5
_LOWEST, _HIGHEST = 20000, 65535

#: The problem of a lease at first.
NOT_ASKED = "the router has not been asked yet"

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
    _until: float = field(default=0.0, init=False)
    _asked: tuple[IPortMapper, int] | None = field(default=None, init=False)
    _last: int = field(default=0, init=False)
    _doubted: tuple[Lease, frozenset[str]] | None = field(default=None, init=False)
    _isDropped: bool = field(default=False, init=False)

    def make(self) -> None:
        """
        Make the lease, or renew it, now.
        """
        self._stopTimer()
        if self._isDropped:
            return
        if self._making is not None:
            self._again = True
            return
        making = self._making = Deferred.fromCoroutine(self._make())
        making.addErrback(self._failed)
        making.addBoth(self._made)

    def _failed(self, failure: Failure) -> None:
        broken(failure)
        if failure.check(CancelledError) is None:
            self._retry()

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
                if self._isDropped:
                    return
                problems.append(f"{mapper.name}: {error}")
                if isinstance(error, Unreachable) and self._stillLives(mapper):
                    # A question may be lost; what the router has lent, it has lent.
                    self._startTimer(_FIRST_WAIT)
                    return
            else:
                self._mapper, self._refusals = mapper, 0
                self._until = self._leases.clock.seconds() + min(lease.lifetime, LIFETIME)
                self._set(lease)
                self._plan(lease)
                return
        self._set(None, "; ".join(problems) or self._leases.problem)
        if ordered:
            self._retry()

    def _retry(self) -> None:
        wait = min(_FIRST_WAIT * 2 ** min(self._refusals, _MOST_DOUBLINGS), _LONGEST_WAIT)
        self._refusals += 1
        self._startTimer(wait * self._leases.random.uniform(0.8, 1.2))

    def _stillLives(self, mapper: IPortMapper) -> bool:
        """
        Whether there is a lease by C{mapper} whose life is not over.
        """
        isIts = self.lease is not None and mapper is self._mapper
        return isIts and self._leases.clock.seconds() < self._until

    async def _obtain(self, mapper: IPortMapper) -> Lease:
        hopes = [self.wanted or self._last]
        if self.lease is not None and mapper is self._mapper:
            # It may have another lease for us, if not this one any more.
            hopes = list(dict.fromkeys([self.lease.external.port, self.wanted, 0]))
        wanted = hopes.pop(0)
        for left in reversed(range(_MOST_CONFLICTS)):
            self._asked = (mapper, wanted)
            try:
                lease: Lease = await mapper.lease(self.internal, wanted, LIFETIME)
            except PortTaken:
                if not left:
                    raise
                hopes = [hope for hope in hopes if hope]
                wanted = hopes.pop(0) if hopes else self._randomPort()
            except Refused:
                if not hopes or not left:
                    raise
                wanted = hopes.pop(0)
            else:
                self._asked = None
                why = self._whyUseless(lease)
                if not why:
                    return lease
                mapper.release(lease).addErrback(lambda _: None)
                raise Refused(why)
        raise AssertionError("the last try returns or raises")

    def _randomPort(self) -> int:
        return self._leases.random.randint(_LOWEST, _HIGHEST)

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
        elif problem not in ("", NOT_ASKED):
            self._leases.note(f"no port on the router for port {self.internal}: {problem}")
        if not same:
            self._changed()

    def doubt(self, seen: Collection[str]) -> bool:
        """
        Servers see us at other hosts than the one of the lease. Perhaps the router has got another
        address, which not every protocol tells before the lease is renewed: so this is done, once
        for the same hosts.

        @param seen: where they see us.
        @return: whether the router has confirmed the lease since.
        """
        if self.lease is None:
            return False
        if self._doubted is None or self._doubted[1] != frozenset(seen):
            self._doubted = (self.lease, frozenset(seen))
            self.make()
            return False
        return self._making is None and self._doubted[0] is not self.lease

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
        self._isDropped = True
        self._leases.unwant(self)
        lease, mapper = self.lease, self._mapper
        self._changed = lambda: None
        self._stopTimer()
        making, self._making, self._again = self._making, None, False
        self.lease = None
        if making is not None:
            making.cancel()
            if lease is None and self._asked is not None:
                # The router may have lent it already, and its answer be on its way.
                mapper, port = self._asked
                lease = Lease(mapper.name, self.internal, makeAddress("0.0.0.0", port), 0.0)
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
        if self._isDropped:
            return
        self._timer = self._leases.clock.callLater(seconds, self._timeCame)

    def _timeCame(self) -> None:
        self._timer = None
        self.make()

    def _stopTimer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None


def broken(failure: Failure) -> None:
    """
    What cannot be is logged; that somebody has cancelled it is no news.
    """
    if failure.check(CancelledError) is None:
        _log.failure("while asking the router", failure)
