"""
Holding back streams that have much to send, while somebody waits for an answer.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: How many times as long as a write took nothing more of the kind is written.
REST = 8.0

#: Seconds of such a pause that are made up for when a timer is late, as most are; and the longest
#: pause: the write may have taken long because another process had its turn.
LATE = 0.003
LONGEST = 0.02


@define(eq=False)
class Restraint:
    """
    Keeps large writes to a part of the process's time. What passes through several processes is
    late where all are busy: each has to be woken, and wait for its turn. A stream that is as fast
    as this end can write keeps this one busy, the other end, and those that both serve.

    How long a write takes tells what it costs here. So a slower machine rests longer, and a stream
    that the network keeps slower than that is not held back at all.

    Made with its pump.
    """

    _clock: IReactorTime
    _goOn: Callable[[], None]
    _until: float = field(default=float("-inf"), init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)

    def wrote(self, began: float) -> None:
        """
        A large write, which has C{began} then, is done.
        """
        now = self._clock.seconds()
        until = max(self._until, now - LATE) + REST * max(now - began, 0.0)
        self._until = min(until, now + LONGEST)

    def holds(self) -> bool:
        """
        Whether it is too soon for another. Then C{goOn} is called when it is not any more.
        """
        now = self._clock.seconds()
        left = self._until - now
        # Much more than was asked for is left when the system's clock was put back.
        if not 0 < left < 2 * LONGEST:
            return False
        if self._timer is None:
            self._timer = self._clock.callLater(left, self._timeIsUp)
        elif self._timer.getTime() > now + 2 * LONGEST:
            self._timer.reset(left)
        return True

    def _timeIsUp(self) -> None:
        self._timer = None
        self._goOn()

    def end(self) -> None:
        """
        Nothing is written any more.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
