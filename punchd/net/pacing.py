"""
How often something may happen.
"""

from __future__ import annotations

from attrs import define, field
from twisted.internet.interfaces import IReactorTime


@define
class Allowance:
    """
    A token bucket: C{burst} at once, and C{rate} a second in the long run.
    """

    _clock: IReactorTime
    _rate: float
    _burst: float
    _left: float = field(init=False)
    _since: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._left = self._burst
        self._since = self._clock.seconds()

    def take(self) -> bool:
        """
        Use the allowance once, if there is any left.
        """
        self._refill()
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def takeUpTo(self, wanted: int) -> int:
        """
        Use the allowance C{wanted} times, or as often as there is some left.

        @return: how often.
        """
        self._refill()
        taken = min(wanted, int(self._left))
        self._left -= taken
        return taken

    @property
    def left(self) -> int:
        """
        How often it may be used now.
        """
        self._refill()
        return int(self._left)

    @property
    def isFull(self) -> bool:
        """
        Whether nobody has used it lately, so that it may be forgotten.
        """
        self._refill()
        return self._left >= self._burst

    def _refill(self) -> None:
        now = self._clock.seconds()
        # The system's clock may be put back.
        passed = max(0.0, now - self._since)
        self._left = min(self._burst, self._left + passed * self._rate)
        self._since = now
