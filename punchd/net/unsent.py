"""
How much the system may hold of what a connection has not sent yet.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any

from attrs import define, field
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.internet.tcp import Connection
from zope.interface import implementer

#: Bytes that may wait in the system unsent: at first, and the bounds of what may be.
FIRST = 128 * 1024
LEAST = 16 * 1024
MOST = 512 * 1024

#: Seconds in which half of them went: if less, there may be twice as many; if more, half as many.
QUICK = 0.001
SLOW = 0.008

# Linux's and macOS's.
_OPTION: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)


@implementer(IPushProducer)
@define(eq=False)
class Unsent:
    """
    Between a TCP transport and its producer: keeps what waits in the system short in time, so that
    whatever is written next is soon sent; but long enough that a fast connection does not stop for
    each write, which costs more than the write. Made with the producer, lives as long.

    The system tells that it takes more when half of what it may hold has gone (tcp(7),
    C{TCP_NOTSENT_LOWAT}). So the time from one to the other says how fast the connection is.

    @ivar limit: bytes that may wait.
    """

    _clock: IReactorTime
    _handle: socket.socket
    _producer: IPushProducer
    limit: int = field(default=0, init=False)
    _pausedAt: float = field(default=0.0, init=False)

    def __attrs_post_init__(self) -> None:
        self._set(FIRST)

    def pauseProducing(self) -> None:
        self._pausedAt = self._clock.seconds()
        self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        took = self._clock.seconds() - self._pausedAt
        if took < QUICK:
            self._set(min(2 * self.limit, MOST))
        elif took > SLOW:
            self._set(max(self.limit // 2, LEAST))
        self._producer.resumeProducing()

    def stopProducing(self) -> None:
        self._producer.stopProducing()

    def _set(self, limit: int) -> None:
        if limit == self.limit:
            return
        self.limit = limit
        if _OPTION is None:
            return
        # It fails when the connection is gone, which its transport is about to see.
        with suppress(OSError):
            self._handle.setsockopt(socket.IPPROTO_TCP, _OPTION, limit)


def boundUnsent(transport: object, producer: Any, clock: IReactorTime) -> Any:
    """
    The producer to register with C{transport}, which resumes and pauses C{producer}: an L{Unsent}
    where it is TCP, else C{producer} itself.
    """
    if isinstance(transport, Connection):
        return Unsent(clock, transport.getHandle(), producer)
    return producer
