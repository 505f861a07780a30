"""
Whether a server is still there, and how far away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: Seconds between pings, and until one must be answered: death is noticed after 7 s at the latest.
PING_INTERVAL = 3.0
PING_PATIENCE = 4.0

#: The same, at the least, for a peer whose address others look up in the DNS and may keep for a
#: short time only: an address of its router's that is gone shall not live on for much longer. A
#: quarter and a half of that time, and never less patience than so many round trips.
LEAST_INTERVAL = 0.25
LEAST_PATIENCE = 0.5
PATIENT_TRIPS = 4

#: Seconds for the answer to a ping when there is reason to doubt that one will come; never less
#: than L{PATIENT_TRIPS} round trips.
DOUBTFUL = 1.5

# Seconds; a longer time makes no difference.
_LONGEST_TTL = 3600


@define(eq=False)
class Pulse:
    """
    Made with each connection. L{expect} comes first, then L{begin}; at last L{end}.

    @ivar _ping: asks the server for a sign of life.
    @ivar _silent: called when there was none in time.
    @ivar roundTrip: seconds to the server and back, as last measured.
    @ivar isWatched: whether others look this peer's address up.
    @ivar isUrgent: whether, now that the server is silent, somebody waits for another connection,
        or is led astray until there is one.
    """

    _clock: IReactorTime
    _ping: Callable[[], Deferred[Any]]
    _silent: Callable[[], None]
    roundTrip: float | None = field(default=None, init=False)
    isWatched: bool = field(default=False, init=False)
    isUrgent: bool = field(default=False, init=False)
    _isDoubted: bool = field(default=False, init=False)
    _keeps: int | None = field(default=None, init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)

    def expect(self, seconds: float) -> None:
        """
        L{begin} must come within so many seconds.
        """
        self._wait(seconds, self._tooLate)

    def begin(self, keeps: int | None) -> None:
        """
        Ask at once, and then again and again.

        @param keeps: seconds for which others may keep what they have looked up; C{None} if there
            is nothing to look up.
        """
        # Whatever a server says, it is a number to reckon with.
        self._keeps = None if keeps is None else min(max(keeps, 0), _LONGEST_TTL)
        self._ask()

    def doubt(self) -> None:
        """
        A path to another peer has been lost, and perhaps the connection to the server with it: ask
        at once whether it is there, and do not wait for long.
        """
        if not self._isDoubted:
            self._isDoubted = True
            self._ask(max(DOUBTFUL, self._longWay))

    def end(self) -> None:
        """
        The connection is gone.
        """
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    @property
    def pace(self) -> tuple[float, float]:
        """
        Seconds between pings, and until one must be answered.
        """
        if not self.isWatched or self._keeps is None:
            return PING_INTERVAL, PING_PATIENCE
        patience = max(self._keeps / 2, LEAST_PATIENCE, self._longWay)
        interval = max(self._keeps / 4, LEAST_INTERVAL)
        return min(interval, PING_INTERVAL), min(patience, PING_PATIENCE)

    @property
    def _longWay(self) -> float:
        return PATIENT_TRIPS * (self.roundTrip or 0.0)

    def _ask(self, most: float = PING_PATIENCE) -> None:
        sent = self._clock.seconds()
        interval, patience = self.pace
        self._wait(min(patience, most), self._tooLate)

        def answered(_: object) -> None:
            self._isDoubted = False
            self.roundTrip = self._clock.seconds() - sent
            if self._timer is not None:
                self._wait(interval, self._ask)

        self._ping().addCallbacks(answered, lambda failure: self._silent())

    def _wait(self, seconds: float, call: Callable[[], None]) -> None:
        self.end()
        self._timer = self._clock.callLater(seconds, call)

    def _tooLate(self) -> None:
        self.isUrgent = self.isWatched or self._isDoubted
        self._silent()
