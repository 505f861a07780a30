"""
Noticing that this host has come to another network, or was asleep: a laptop that is carried about.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from punchd.values.addresses import Address

#: Seconds between looks; each is a look into the kernel's routes, and sends nothing.
GLANCE = 2.0

#: Seconds from the kernel's word that something has changed to the look: one change is several to
#: it, and in between no way may lead anywhere.
SETTLING = 0.1

#: Seconds of sleep after which whoever was connected has given up, or a NAT on the way has.
ASLEEP = 5.0


def suspended() -> float:
    """
    For how many seconds, since it was booted, this host was suspended; 0 where the system does not
    tell.
    """
    booted = getattr(time, "CLOCK_BOOTTIME", None)
    if booted is None:
        return 0.0
    awake = time.clock_gettime(time.CLOCK_MONOTONIC)
    return time.clock_gettime(booted) - awake


@define(eq=False)
class Roaming:
    """
    Watches from which of this host's addresses the server is dialled. L{begin} and L{end} come with
    the connections to it.

    A connection does not break when its address is gone, or its NAT has forgotten it: nothing comes
    through it any more, which its pings would notice some seconds later.

    @ivar _source: see L{punchd.net.own.sourceToward}.
    @ivar _moved: called when it is another one than at the beginning, or after a sleep, with a line
        that says so.
    @ivar _watch: gets what is called when there may be news, and gives what ends that; see
        L{punchd.net.rerouting.watchRoutes}. Without news, every L{GLANCE} must do.
    @ivar _suspended: see L{suspended}.
    """

    _clock: IReactorTime
    _source: Callable[[Address], str | None]
    _moved: Callable[[str], None]
    _watch: Callable[[Callable[[], None]], Callable[[], None]]
    _suspended: Callable[[], float] = suspended
    _glance: IDelayedCall | None = field(default=None, init=False)
    _unwatch: Callable[[], None] | None = field(default=None, init=False)
    _slept: float = field(default=0.0, init=False)

    def begin(self, server: Address) -> None:
        """
        There is a connection to C{server}.
        """
        self.end()
        self._slept = self._suspended()
        self._unwatch = self._watch(self._news)
        self._wait(server, self._source(server))

    def end(self) -> None:
        """
        It has ended.
        """
        unwatch, self._unwatch = self._unwatch, None
        if unwatch is not None:
            unwatch()
        glance, self._glance = self._glance, None
        if glance is not None and glance.active():
            glance.cancel()

    def _news(self) -> None:
        glance = self._glance
        if glance is not None and glance.getTime() > self._clock.seconds() + SETTLING:
            glance.reset(SETTLING)

    def _wait(self, server: Address, at: str | None) -> None:
        self._glance = self._clock.callLater(GLANCE, self._look, server, at)

    def _look(self, server: Address, at: str | None) -> None:
        now = self._source(server)
        slept = self._suspended() - self._slept
        if at is not None and now is not None and now != at:
            self._noticed(f"this host is at {now} now, no longer at {at}")
        elif slept >= ASLEEP:
            self._noticed(f"this host was asleep for {slept:.0f} s")
        else:
            # Without any way, another one may come, or the same again.
            self._wait(server, at or now)

    def _noticed(self, what: str) -> None:
        self.end()
        self._moved(what)
