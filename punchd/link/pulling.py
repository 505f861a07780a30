"""
Pull producers on a stream.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from zope.interface import implementer


@implementer(IPushProducer)
class PullAdapter:
    """
    Asks a pull producer for more, once in a turn of the reactor, as long as more is wanted. Made
    when one is registered, with pausing over; ends with L{stopProducing}, or when it is paused for
    the last time.
    """

    def __init__(self, clock: IReactorTime, producer: Any) -> None:
        self._clock = clock
        self._producer = producer
        self._next: IDelayedCall | None = None

    def resumeProducing(self) -> None:
        if self._next is None:
            self._next = self._clock.callLater(0, self._pull)

    def _pull(self) -> None:
        # Before the producer is asked: it may end, or fill the queue, in there.
        self._next = self._clock.callLater(0, self._pull)
        self._producer.resumeProducing()

    def pauseProducing(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def stopProducing(self) -> None:
        self.pauseProducing()
        self._producer.stopProducing()
