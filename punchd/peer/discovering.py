"""
Knowing what stands before a peer: looked at after each login, and now and then.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from attrs import define, evolve, field
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from punchd.errors import PunchdError
from punchd.nat.discovery import Discovery, Instruments, Surroundings
from punchd.nat.report import NatReport
from punchd.values.nat import UNKNOWN, NatBehaviour

_log = Logger()

#: Seconds between discoveries, give or take a fifth, so that the peers of a restarted server do not
#: stay in step.
PERIOD = 600.0
_SPREAD = 0.2

#: The same after one that failed.
RETRY = 60.0


@define(eq=False)
class Discovering:
    """
    What one L{MasterClient<punchd.peer.master.MasterClient>} knows of its NAT. L{begin} and L{end}
    come with its connections; what was found stays, as long as the server sees us at the same host.

    @ivar report: the latest; C{None} before the first, and before the first at another network.
    @ivar problem: why the latest discovery failed; C{None} if it did not.
    @ivar _around: what is around now.
    @ivar _instruments: makes what a discovery probes with.
    @ivar _changed: called when offers have to say something else than before.
    """

    _clock: IReactorTime
    _random: Random
    _around: Callable[[], Surroundings]
    _instruments: Callable[[Surroundings], Instruments]
    _changed: Callable[[], None]
    _note: Callable[[str], None]
    report: NatReport | None = field(default=None, init=False)
    problem: str | None = field(default=None, init=False)
    # Where the server saw us when the report was made, and the address that was in it.
    _seenAt: str | None = field(default=None, init=False)
    _before: str | None = field(default=None, init=False)
    # What stands for the discovery that is under way: what comes of an older one is of no interest.
    _work: object | None = field(default=None, init=False)
    _looking: Deferred[None] | None = field(default=None, init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)
    _waiting: list[Deferred[None]] = field(factory=list, init=False)

    @property
    def behaviour(self) -> NatBehaviour:
        """
        What offers say.
        """
        return UNKNOWN if self.report is None else self.report.behaviour

    def begin(self) -> None:
        """
        Look now, from scratch if something was under way, and again every L{PERIOD}
        or so.
        """
        self._stop()
        self._work = work = object()
        looking = Deferred.fromCoroutine(self._look(work))
        looking.addErrback(self._failed, work)
        looking.addCallback(lambda _: self._over(work))
        if self._work is work:
            self._looking = looking

    def end(self) -> Deferred[None]:
        """
        There is no server any more to look from.

        @return: fires when all ports are closed.
        """
        looking = self._stop()
        self._release()
        if looking is None:
            return succeed(None)
        ended: Deferred[None] = Deferred()
        looking.chainDeferred(ended)
        return ended

    def whenFound(self) -> Deferred[None]:
        """
        Fires when nothing is under way.
        """
        if self._work is None:
            return succeed(None)
        waiting: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    async def _look(self, work: object) -> None:
        around = self._around()
        host = around.observed.host
        if host != self._seenAt:
            self._forget()
        discovery = Discovery(
            self._instruments(around),
            around,
            self._before,
            lambda report: self._take(report, host, work),
        )
        self._take(await discovery.run(), host, work)

    def _forget(self) -> None:
        """
        What was found was before another network, and misleads whoever we are introduced to.
        """
        known, self.report = self.report, None
        if known is not None and known.behaviour != UNKNOWN:
            self._changed()

    def _take(self, report: NatReport, host: str, work: object) -> None:
        if self._work is not work:
            return
        self.problem = None
        self._seenAt, self._before = host, report.address
        known, self.report = self.report, withKnown(report, self.report)
        if known is None or known.behaviour != self.report.behaviour:
            self._changed()
        if report.isComplete:
            self._note(f"what is before us: {report.line()}")
            for contradiction in report.contradictions:
                self._note(f"what is before us contradicts itself: {contradiction}")

    def _failed(self, failure: Failure, work: object) -> None:
        if failure.check(PunchdError, CancelledError) is None:
            _log.failure("while finding out what is before us", failure)
        elif self._work is work:
            self.problem = str(failure.value)
            self._note(f"cannot find out what is before us: {self.problem}; will try again")

    def _over(self, work: object) -> None:
        if self._work is not work:
            return
        self._work = self._looking = None
        spread = self._random.uniform(1 - _SPREAD, 1 + _SPREAD)
        period = PERIOD if self.problem is None else RETRY
        self._timer = self._clock.callLater(period * spread, self.begin)
        self._release()

    def _stop(self) -> Deferred[None] | None:
        looking, self._looking, self._work = self._looking, None, None
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if looking is not None:
            looking.cancel()
        return looking

    def _release(self) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(None)


def withKnown(report: NatReport, known: NatReport | None) -> NatReport:
    """
    C{report}, which has only the quick part, with the slow part of an earlier one, if both seem to
    be about the same NAT.
    """
    if report.isComplete or known is None:
        return report
    if (report.address, report.mapping, report.allocation) != (
        known.address,
        known.mapping,
        known.allocation,
    ):
        return report
    return evolve(
        report,
        filtering=known.filtering,
        unsolicited=known.unsolicited,
        hairpin=known.hairpin,
        doubleNat=known.doubleNat,
        routers=known.routers,
    )
