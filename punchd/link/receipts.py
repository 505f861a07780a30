"""
When a session says how much it has received.
"""

from __future__ import annotations

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from punchd.link.paths import Paths

#: Bytes that are received before they are acknowledged, and seconds after which they are anyway.
#: With a quarter as many bytes, the sender spends a tenth of its time on hearing it.
ACKNOWLEDGE = 1024 * 1024
ACKNOWLEDGING = 0.2


@define(eq=False)
class Receipts:
    """
    Made with its session.

    @ivar isDue: whether it is to be said now: with the next thing that is sent.
    """

    _clock: IReactorTime
    _paths: Paths
    isDue: bool = field(default=False, init=False)
    _said: int = field(default=0, init=False)
    _later: IDelayedCall | None = field(default=None, init=False)

    def received(self) -> bool:
        """
        Something has come.

        @return: whether it was of the sequence.
        """
        missing = self._paths.received - self._said
        if missing >= ACKNOWLEDGE:
            self.isDue = True
        elif missing and self._later is None:
            self._later = self._clock.callLater(ACKNOWLEDGING, self._isLate)
        return missing > 0

    def _isLate(self) -> None:
        self._later = None
        self.say()

    def sayAlong(self) -> None:
        """
        Say it with what is about to be sent, if it is due.
        """
        if self.isDue:
            self._acknowledge()

    def say(self) -> None:
        """
        Say it now, if there is anything new.
        """
        self.isDue = False
        self._acknowledge()
        if self._paths.sender is not None:
            self._paths.sender.flush()

    def _acknowledge(self) -> None:
        received = self._paths.received
        sender = self._paths.sender
        if sender is not None and received > self._said:
            self._said = received
            sender.acknowledge(received)

    def end(self) -> None:
        """
        The session is over.
        """
        if self._later is not None:
            self._later.cancel()
            self._later = None
