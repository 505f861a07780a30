"""
How much a connection's system gathers before it tells that something has come.
"""

from __future__ import annotations

import socket
import sys
from contextlib import suppress

from attrs import define, field
from twisted.internet.interfaces import IReactorTime

#: Seconds for which what comes may be gathered, at the rate at which it came lately.
GATHERING = 0.001

#: Bytes that are gathered, at least (below, nothing is) and at most.
LEAST = 32 * 1024
MOST = 384 * 1024

#: Bytes of one read from which on somebody looks how fast they come; and seconds between looks.
MUCH = 64 * 1024
LOOKING = 0.004

# Where the system tells at once when it need not gather any more: Linux, since 4.18.
_IS_POSSIBLE = sys.platform.startswith("linux")


@define(eq=False)
class Gathering:
    """
    Has the system tell of what comes over a fast connection when it is worth a turn of the reactor,
    not with each segment: else whoever reads as fast as it comes takes much of its processor time
    for being told (socket(7), C{SO_RCVLOWAT}). So what comes beside a fast stream waits for
    L{GATHERING} seconds more; what came last before a pause, until the next look. Nothing is
    gathered where less comes, which is on connections below a quarter of a gigabit a second.

    Nor while somebody waits for an answer: see L{hurry}.

    Made for one connection; needs no end.
    """

    _clock: IReactorTime
    _handle: socket.socket
    _came: int = field(default=0, init=False)
    _since: float | None = field(default=None, init=False)
    _gathered: int = field(default=1, init=False)
    _hurriesUntil: float = field(default=float("-inf"), init=False)

    def read(self, count: int) -> None:
        """
        So many bytes were read at once.
        """
        self._came += count
        if count >= MUCH and self._since is None and _IS_POSSIBLE:
            self._came = 0
            self._lookLater()

    def hurry(self, seconds: float) -> None:
        """
        Tell of each thing at once, for so long.
        """
        self._hurriesUntil = self._clock.seconds() + seconds
        self._gather(1)

    def _lookLater(self) -> None:
        self._since = self._clock.seconds()
        self._clock.callLater(LOOKING, self._look)

    def _look(self) -> None:
        assert self._since is not None
        # The reactor may have been late, but a clock may stand still.
        now = self._clock.seconds()
        rate = self._came / max(now - self._since, LOOKING)
        self._came = 0
        worth = int(min(rate * GATHERING, MOST))
        isFast = worth >= LEAST
        self._gather(worth if isFast and now >= self._hurriesUntil else 1)
        if isFast:
            self._lookLater()
        else:
            self._since = None

    def _gather(self, count: int) -> None:
        # Not for each small change.
        if count == self._gathered:
            return
        if count == 1 or abs(count - self._gathered) >= LEAST // 2:
            self._gathered = count
            # It fails when the connection is gone, which its transport is about to see.
            with suppress(OSError):
                self._handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)
