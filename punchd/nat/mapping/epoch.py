"""
A router's clock, by which it shows that it has forgotten its leases.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from twisted.internet.interfaces import IReactorTime


@define
class Epoch:
    """
    Of one router; lives as long as somebody speaks to it.

    @ivar _hasLost: of the seconds since the answer before, by our clock and by the router's, and of
        the router's clock now: does this say that it has begun anew?
    @ivar generation: how often it has.
    """

    _clock: IReactorTime
    _hasLost: Callable[[float, float], bool]
    generation: int = field(default=0, init=False)
    _ours: float | None = field(default=None, init=False)
    _theirs: int = field(default=0, init=False)

    def heard(self, seconds: int) -> int:
        """
        The router's clock says C{seconds}.

        @return: the generation after that.
        """
        now = self._clock.seconds()
        if self._ours is not None and self._hasLost(now - self._ours, seconds - self._theirs):
            self.generation += 1
        self._ours, self._theirs = now, seconds
        return self.generation


def pcpHasLost(ours: float, theirs: float) -> bool:
    """
    RFC 6887, 8.5: the router's clock went back, or the two clocks went at different speeds.
    """
    if theirs < -1:
        return True
    return ours + 2 < theirs - theirs / 16 or theirs + 2 < ours - ours / 16


def natpmpHasLost(ours: float, theirs: float) -> bool:
    """
    RFC 6886, 3.6: the router's clock is more than 2 s behind a careful estimate, which lets it go
    an eighth too slow.
    """
    return theirs < ours * 7 / 8 - 2
