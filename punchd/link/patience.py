"""
How long one end waits for the other.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall

from punchd.link.carrier import Carrier


@define(eq=False)
class Patience:
    """
    Made with its stream. Waits for one thing at a time, and only while the other end can be heard:
    a link without a path is not its fault.
    """

    _carrier: Carrier
    _lost: Callable[[str], None]
    _timer: IDelayedCall | None = field(default=None, init=False)

    def begin(self, seconds: float, why: str) -> None:
        """
        Wait, unless that is done already. After C{seconds}, C{why} is what the other end has failed
        to do.
        """
        if self._timer is None:
            self._timer = self._carrier.clock.callLater(seconds, self._over, seconds, why)

    def _over(self, seconds: float, why: str) -> None:
        self._timer = None
        if self._carrier.isConnected:
            self._lost(why)
        else:
            self.begin(seconds, why)

    def end(self) -> None:
        """
        It has come.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
