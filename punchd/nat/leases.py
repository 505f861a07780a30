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

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from punchd.errors import PunchdError, Unreachable
from punchd.interfaces import IPortMapper
from punchd.nat.gateway import Gateway
from punchd.nat.wish import NOT_ASKED, Wish, broken

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
        @param find: who our gateway is now, as L{punchd.nat.gateway.findGateway} says it.
        @param mappersFor: all ways of asking it, best first.
        @param note: takes a line for the log.
        """
        self.clock = clock
        self.random = random
        self.note = note
        self.mappers: list[IPortMapper] = []
        self.problem = NOT_ASKED
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
        except OSError as error:
            # Nothing is known now, so nothing has changed.
            _log.warn("cannot look for the router: {error}", error=error)
            return
        if gateway != self.gateway or (gateway is None and problem != self.problem):
            self._stopWorking()
            isFirst = self.gateway is None
            self.gateway = gateway
            self._forget(problem or (NOT_ASKED if isFirst else "the gateway is another one now"))
            self._askAt = now
        if gateway is None or self._working is not None or now < self._askAt:
            return
        working = self._check() if self.mappers else self._ask(gateway)
        deferred = self._working = Deferred.fromCoroutine(working)
        deferred.addErrback(broken)
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
