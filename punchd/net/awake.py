"""
Staying awake for what comes soon.
"""

from __future__ import annotations

import os

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: Bytes that are a request, or an answer, at most. More is something else.
LITTLE = 4096

#: Seconds after one in which the next is soon; and for which it is worth to stay awake.
SOON = 0.0005

#: An answer that comes soon counts one, up to so many; anything else takes away so many; and so
#: many are enough for the next one to be awaited.
MOST = 32
OTHER = 8
ENOUGH = 8


@define(eq=False)
class Awake:
    """
    Lets the reactor look again, and not sleep, for L{SOON} seconds after something little has come,
    as long as an answer mostly comes as soon: a request, its answer, the next request. To sleep and
    be woken takes a process longer than all that it does with a request; over a fast path, that was
    half of the time that a request took.

    What it costs is processor time (and power), while such a conversation lasts. Others on the same
    processor come first: it is theirs at each look. Nobody stays awake for what goes one way, for
    answers that take longer, or for much data; beside that, it makes no difference.

    Made for one reactor, on which time goes by; needs no end.
    """

    _clock: IReactorTime
    _cameAt: float = field(default=float("-inf"), init=False)
    _cameFrom: int = field(default=0, init=False)
    _count: int = field(default=0, init=False)
    _looking: IDelayedCall | None = field(default=None, init=False)

    def came(self, end: object, other: object, length: int) -> None:
        """
        So many bytes have come from C{end}, for C{other}.
        """
        if length > LITTLE:
            return
        now = self._clock.seconds()
        if self._cameFrom == id(other) and self._isSoon(now):
            self._count = min(self._count + 1, MOST)
        else:
            self._count = max(self._count - OTHER, 0)
        self._cameAt, self._cameFrom = now, id(end)
        if self._count >= ENOUGH and self._looking is None:
            self._lookAgain()

    def _isSoon(self, now: float) -> bool:
        # The system's clock may be put back.
        return 0 <= now - self._cameAt <= SOON

    def _lookAgain(self) -> None:
        self._looking = self._clock.callLater(0, self._look)

    def _look(self) -> None:
        self._looking = None
        if self._count >= ENOUGH and self._isSoon(self._clock.seconds()):
            os.sched_yield()
            self._lookAgain()
