"""
Those who wait for something that comes again and again.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure


@define(eq=False)
class Waiters:
    """
    Each is told once, of what comes next after it began to wait. True while there are any.

    @ivar _gone: called when somebody does not want to wait any more.
    """

    _gone: Callable[[], None] = lambda: None
    _all: list[Deferred[None]] = field(factory=list, init=False)

    def __bool__(self) -> bool:
        return bool(self._all)

    def wait(self) -> Deferred[None]:
        """
        Fires, or fails, as the next L{tell} says.
        """
        waiting: Deferred[None] = Deferred(self._cancelled)
        self._all.append(waiting)
        return waiting

    def tell(self, failure: Failure | None = None) -> None:
        """
        It has come, or C{failure} instead of it.
        """
        told, self._all = self._all, []
        for one in told:
            # It may have been cancelled meanwhile, by the one before it.
            if not one.called:
                one.callback(failure)

    def _cancelled(self, waiting: Deferred[None]) -> None:
        if waiting in self._all:
            self._all.remove(waiting)
        self._gone()
