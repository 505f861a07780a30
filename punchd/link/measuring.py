"""
How long the way to the other end and back takes, measured inside the connection.
"""

from __future__ import annotations

from typing import Protocol as Typing

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from punchd.errors import ProtocolViolation, Unreachable
from punchd.wire.frames import Kind

#: Seconds until the answer must be there.
ANSWERING = 10.0

_PAYLOAD = b"punchd??"


class _Send(Typing):
    def __call__(self, kind: Kind, payload: bytes = b"") -> None:
        """Send a frame."""


@define(eq=False)
class RoundTrips:
    """
    The measurements of one stream; lives as long.

    @ivar latest: seconds; C{None} before the first.
    """

    _clock: IReactorTime
    _send: _Send
    latest: float | None = field(default=None, init=False)
    _sentAt: float | None = field(default=None, init=False)
    _waiting: list[Deferred[float]] = field(factory=list, init=False)

    def measure(self) -> Deferred[float]:
        """
        Fires with the seconds. Who asks while a ping is under way shares it.

        @raise Unreachable: when no answer comes.
        """
        waiting: Deferred[float] = Deferred()
        self._waiting.append(waiting)
        waiting.addTimeout(ANSWERING, self._clock, _noAnswer)
        if self._sentAt is None:
            self._sentAt = self._clock.seconds()
            self._send(Kind.PING, _PAYLOAD)
        return waiting

    def ponged(self) -> None:
        """
        The other end has answered.

        @raise ProtocolViolation: when nobody has asked.
        """
        if self._sentAt is None:
            raise ProtocolViolation("PONG without PING")
        self.latest = self._clock.seconds() - self._sentAt
        self._sentAt = None
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(self.latest)

    def end(self) -> None:
        """
        There will be no more answers.
        """
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.errback(Unreachable("the connection ended"))


def _noAnswer(result: object, seconds: float) -> Failure:
    return Failure(Unreachable(f"no answer from the other end within {seconds:.0f} s"))
