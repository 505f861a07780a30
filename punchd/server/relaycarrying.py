"""
The bytes of a relayed path: from one socket to another, and back.

This is where the relay spends its time, so it stands in for what the transports do otherwise when
their sockets are ready: bytes go from socket to pipe to socket inside the kernel. Where that is not
to be had, they are copied through one buffer that all share. Either way no more is taken from one
end than the other one takes, but for what one turn brings.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from attrs import define, field
from twisted.internet.main import CONNECTION_LOST

from punchd.server.relaypipes import Pipe, Pipes

#: Bytes that one end may bring in one turn of the reactor. The others wait for no more than this,
#: which takes about a fifth of a millisecond.
MOST_AT_ONCE = 1 << 20

# What is copied, is so through this: what fits into a processor's cache is copied fastest.
_BUFFER = memoryview(bytearray(256 * 1024))

# Not everywhere; where it is missing, there are no pipes either.
_FLAGS = getattr(os, "SPLICE_F_MOVE", 0) | getattr(os, "SPLICE_F_NONBLOCK", 0)


class Meter(Protocol):
    """
    Who counts, and limits, what is carried.
    """

    def portion(self) -> int:
        """
        How many bytes may be moved now; with 0, none until L{Carrying.resume}.
        """

    def moved(self, count: int) -> None:
        """
        So many were.
        """


class _DrainLost(Exception):
    """
    It is not the end that is read from whose connection has broken.
    """


@define(eq=False)
class _Way:
    """
    One of the two directions.

    @ivar source: the transport whose bytes these are; C{drain} gets them.
    @ivar kept: bytes that were copied, and that C{drain} has not taken yet.
    @ivar isEnded: whether C{source} has said its last, and C{drain} was told.
    """

    source: Any
    drain: Any
    kept: bytes
    _pipes: Pipes
    isEnded: bool = field(default=False, init=False)
    _pipe: Pipe | None = field(default=None, init=False)
    _splices: bool = field(default=True, init=False)

    def isFull(self) -> bool:
        """
        Whether C{drain} must take something before more can come.
        """
        return bool(self.kept) or self._pipe is not None

    def take(self, most: int) -> int:
        """
        Move up to C{most} bytes.

        @return: how many came.
        @raise BlockingIOError: when none did.
        @raise OSError: when C{source} has broken.
        @raise _DrainLost: when C{drain} has.
        """
        pipe = self._pipes.take() if self._splices else None
        if pipe is None:
            count = self._copy(most)
        else:
            self._pipe = pipe
            try:
                count = os.splice(self.source.fileno(), pipe.writeEnd, most, flags=_FLAGS)
            except OSError as error:
                self.drop()
                if error.errno != errno.EINVAL:
                    raise
                # A kind of socket, or a kernel, that cannot do it.
                self._splices = False
                count = self._copy(most)
            else:
                pipe.holds = count
                self.bring()
        if not count:
            self.isEnded = True
            self._drained(self._shut)
        return count

    def _copy(self, most: int) -> int:
        count: int = self.source.getHandle().recv_into(_BUFFER, min(most, len(_BUFFER)))
        sent = self._drained(partial(self._send, _BUFFER[:count])) if count else 0
        if sent < count:
            self.kept = bytes(_BUFFER[sent:count])
        return count

    def bring(self) -> None:
        """
        Let C{drain} take what it takes of what is here.

        @raise _DrainLost: when it has broken.
        """
        if self.kept:
            self.kept = self.kept[self._drained(partial(self._send, self.kept)) :]
        pipe = self._pipe
        if pipe is None:
            return
        while pipe.holds:
            moved = self._drained(partial(self._splice, pipe))
            if not moved:
                return
            pipe.holds -= moved
        self.drop()

    def drop(self) -> None:
        """
        Give the pipe back.
        """
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            self._pipes.give(pipe)

    def _splice(self, pipe: Pipe) -> int:
        return os.splice(pipe.readEnd, self.drain.fileno(), pipe.holds, flags=_FLAGS)

    def _send(self, data: bytes | memoryview) -> int:
        sent: int = self.drain.getHandle().send(data)
        return sent

    def _shut(self) -> int:
        # As Twisted does it; its own way waits for a turn of the reactor.
        self.drain.getHandle().shutdown(socket.SHUT_WR)
        return 0

    def _drained(self, act: Callable[[], int]) -> int:
        try:
            return act()
        except BlockingIOError:
            return 0
        except OSError as error:
            raise _DrainLost from error


class Carrying:
    """
    Two connections whose bytes go to each other. Made when both are there; from then on their
    protocols get nothing but the end: C{connectionLost}.

    @ivar count: bytes that were moved, both ways together.
    """

    def __init__(
        self,
        one: Any,
        other: Any,
        greeting: bytes,
        pipes: Pipes,
        meter: Meter,
        finished: Callable[[], None],
    ) -> None:
        """
        @param one: a TCP transport, like C{other}.
        @param greeting: what both get first.
        @param finished: called when both ends have said their last.
        """
        self.count = 0
        self._meter = meter
        self._finished = finished
        self._isHeld = False
        self._ways = _Way(one, other, greeting, pipes), _Way(other, one, greeting, pipes)
        for way, back in (self._ways, self._ways[::-1]):
            way.source.doRead = partial(self._readable, way)
            way.source.doWrite = partial(self._writable, back)
        for way in self._ways:
            self._writable(way)

    def hold(self) -> None:
        """
        Take nothing from either end, until L{resume}.
        """
        self._isHeld = True
        for way in self._ways:
            way.source.stopReading()

    def resume(self) -> None:
        """
        Go on.
        """
        self._isHeld = False
        for way in self._ways:
            self._look(way)

    def look(self) -> None:
        """
        Notice ends that have broken while they were not read from, which the reactor does not tell.
        """
        for way in self._ways:
            if not (way.isEnded or way.isFull()) or not way.source.connected:
                continue
            if way.source.getHandle().getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                way.source.abortConnection()

    def stop(self) -> None:
        """
        Nothing is moved any more; the transports are what they were.
        """
        self._isHeld = True
        for way in self._ways:
            way.drop()
            if way.source.connected:
                way.source.stopReading()
                way.source.stopWriting()
            for name in ("doRead", "doWrite"):
                way.source.__dict__.pop(name, None)

    def _readable(self, way: _Way) -> Exception | None:
        """
        In place of C{way.source}'s own doRead: its socket has something.
        """
        if self._isHeld or way.isFull() or way.isEnded:
            # The reactor had heard of it before it was told to wait.
            return None
        portion = self._meter.portion()
        if not portion:
            return None
        try:
            count = way.take(min(portion, MOST_AT_ONCE))
        except BlockingIOError:
            return None
        except _DrainLost:
            self._broke(way)
            return None
        except OSError:
            return CONNECTION_LOST
        if way.isFull() or not count:
            self._look(way)
        if count:
            self.count += count
            self._meter.moved(count)
        elif all(one.isEnded for one in self._ways):
            self._finished()
        return None

    def _writable(self, way: _Way) -> None:
        """
        In place of C{way.drain}'s own doWrite: its socket has room.
        """
        try:
            way.bring()
        except _DrainLost:
            self._broke(way)
        else:
            self._look(way)

    def _look(self, way: _Way) -> None:
        """
        Wait for what C{way} is waiting for.
        """
        if way.isFull():
            way.source.stopReading()
            way.drain.startWriting()
            return
        way.drain.stopWriting()
        if way.isEnded or self._isHeld:
            way.source.stopReading()
        else:
            way.source.startReading()

    def _broke(self, way: _Way) -> None:
        way.source.stopReading()
        way.drain.abortConnection()
