"""
How a session ends.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from punchd.errors import ProtocolViolation
from punchd.link.occasion import Occasion
from punchd.link.pump import Pump
from punchd.wire.frames import Kind, packEnd


@define(eq=False)
class Ending:
    """
    Made with its session. Both ends say goodbye; from then on there are no new streams, and when
    those that there are have finished, and each end knows that the other has everything, it is
    over. It is over at once when one end says so, or when there was no path for too long.

    @ivar isOver: whether it is.
    @ivar why: it ends, as soon as that is known.
    """

    _clock: IReactorTime
    _survival: float
    _pump: Pump
    _finish: Callable[[], None]
    isOver: bool = field(default=False, init=False)
    why: str = field(default="", init=False)
    _said: bool = field(default=False, init=False)
    _heard: bool = field(default=False, init=False)
    _surviving: IDelayedCall | None = field(default=None, init=False)
    _over: Occasion[str] = field(factory=Occasion, init=False)

    @property
    def isNear(self) -> bool:
        """
        Whether there will be no more streams.
        """
        return self.isOver or self._said or self._heard

    @property
    def isAgreed(self) -> bool:
        """
        Whether both ends know.
        """
        return self._said and self._heard

    def say(self, why: str) -> None:
        """
        Say goodbye, unless that was done.
        """
        if not (self._said or self.isOver):
            self._said = True
            self.why = self.why or why
            self._pump.send(packEnd(Kind.GOODBYE, False, why))

    def heard(self, isNow: bool, why: str) -> None:
        """
        The other end says goodbye.

        @raise ProtocolViolation: when it has done so before.
        """
        if isNow:
            self.over(why)
            return
        if self._heard:
            raise ProtocolViolation("GOODBYE twice")
        self._heard = True
        self.say(why)

    @property
    def survivesUntil(self) -> float | None:
        """
        When it will be over if there is no path by then, on the clock; C{None} while there is one.
        """
        return None if self._surviving is None else self._surviving.getTime()

    def awaitPath(self) -> None:
        """
        There is no path: wait for one, but not for ever.
        """
        if self._surviving is None and not self.isOver:
            self._surviving = self._clock.callLater(self._survival, self._survived)

    def hasPath(self) -> None:
        """
        There is one.
        """
        if self._surviving is not None:
            self._surviving.cancel()
            self._surviving = None

    def _survived(self) -> None:
        self._surviving = None
        self.over(f"no path for {self._survival:.0f} s")

    def over(self, why: str) -> None:
        """
        It is over now.
        """
        if self.isOver:
            return
        self.isOver = True
        self.why = why
        self.hasPath()
        self._finish()
        self._over.come(why)

    def whenOver(self) -> Deferred[str]:
        """
        Fires when it is, and says why.
        """
        return self._over.wait()
