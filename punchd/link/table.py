"""
The streams of a link, by number.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from attrs import define, field
from twisted.internet.interfaces import IReactorTime

from punchd.errors import ProtocolViolation
from punchd.net.pacing import Allowance
from punchd.wire.frames import LAST_STREAM

if TYPE_CHECKING:
    from punchd.link.stream import Stream

#: Streams beyond the limit that the other end may try to open, a second and at once. A program
#: there may ask for thousands of connections; who floods asks for tens of thousands a second.
BEYOND_PER_SECOND = 1000.0
BEYOND_AT_ONCE = 20_000.0


@define(eq=False)
class Table:
    """
    Lives as long as its session. The end that has made the link opens streams with odd numbers, the
    other with even ones; each number is more than the one before it, so what is closed needs no
    memory.
    """

    _clock: IReactorTime
    _isInitiator: bool
    _most: int
    _streams: dict[int, Stream] = field(factory=dict, init=False)
    _next: int = field(init=False)
    _theirNext: int = field(init=False)
    _pastIn: int = field(default=0, init=False)
    _pastOut: int = field(default=0, init=False)
    _beyond: Allowance = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._beyond = Allowance(self._clock, BEYOND_PER_SECOND, BEYOND_AT_ONCE)
        self._next, self._theirNext = (1, 2) if self._isInitiator else (2, 1)

    @property
    def streams(self) -> Collection[Stream]:
        """
        Those that are there.
        """
        return self._streams.values()

    @property
    def bytesIn(self) -> int:
        """
        What has come in all streams.
        """
        return self._pastIn + sum(stream.bytesIn for stream in self.streams)

    @property
    def bytesOut(self) -> int:
        """
        What was written to them.
        """
        return self._pastOut + sum(stream.bytesOut for stream in self.streams)

    @property
    def isComplete(self) -> bool:
        """
        Whether nothing is missing of any of them at either end.
        """
        return all(stream.isComplete for stream in self.streams)

    def whyFull(self) -> str | None:
        """
        Why there can be no other stream now, if so.
        """
        if len(self._streams) >= self._most:
            return f"there are {self._most} streams on this link already"
        if self._next > LAST_STREAM:
            return "this link has no number left for another stream"
        return None

    def claimOwn(self) -> int:
        """
        The number for a stream of ours.
        """
        number = self._next
        self._next += 2
        return number

    def claim(self, number: int) -> None:
        """
        The other end opens a stream.

        @raise ProtocolViolation: when it may not have that number, or tries on and on while there
            are as many as may be.
        """
        if number % 2 != self._theirNext % 2:
            raise ProtocolViolation(f"OPEN of stream {number}, which is not its to open")
        if number < self._theirNext:
            raise ProtocolViolation(f"OPEN of stream {number}, which was opened before")
        if len(self._streams) >= self._most and not self._beyond.take():
            raise ProtocolViolation(
                f"more than {BEYOND_PER_SECOND:.0f} OPENs a second beyond {self._most} streams"
            )
        self._theirNext = number + 2

    def add(self, stream: Stream) -> None:
        """
        There is a new one.
        """
        self._streams[stream.number] = stream

    def get(self, number: int) -> Stream | None:
        """
        The stream with that number, or C{None} when it is closed.

        @raise ProtocolViolation: when there never was one.
        """
        stream = self._streams.get(number)
        if stream is None:
            next_ = self._next if number % 2 == self._next % 2 else self._theirNext
            if number >= next_:
                raise ProtocolViolation(f"a frame for stream {number}, which never was")
        return stream

    def remove(self, stream: Stream) -> None:
        """
        It is over, or goes on without the link.
        """
        if self._streams.pop(stream.number, None) is not None:
            self._pastIn += stream.bytesIn
            self._pastOut += stream.bytesOut
