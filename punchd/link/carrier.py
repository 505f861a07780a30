"""
What one stream needs of the link that carries it.
"""

from __future__ import annotations

from typing import Any
from typing import Protocol as Typing

from twisted.internet.interfaces import IAddress, IReactorTime

from punchd.link.flow import Budget, Limits


class Carrier(Typing):
    """
    A link, as its streams see it.

    @ivar budget: what all windows take together.
    @ivar host: this end, by its key; C{peer}: the other.
    """

    clock: IReactorTime
    limits: Limits
    budget: Budget
    host: IAddress
    peer: IAddress

    @property
    def leastRoundTrip(self) -> float | None:
        """Seconds that the way there and back takes when nothing waits, if known."""

    @property
    def isConnected(self) -> bool:
        """Whether there is a path now."""

    def send(self, frame: bytes, withAck: bool = False) -> None:
        """Send a frame that is no C{DATA}, perhaps with an C{ACK} behind it."""

    def ready(self, stream: Any) -> None:
        """That stream has something to send."""

    def readySoon(self, stream: Any) -> None:
        """The same, where others may follow in this turn of the reactor."""

    def ended(self, stream: Any) -> None:
        """That stream is over."""
