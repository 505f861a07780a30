"""
What a link has sent and the other end has not yet acknowledged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from attrs import define, field

from punchd.errors import ProtocolViolation

#: Bytes of whole frames, in pieces that are written one behind the other.
Pieces = Sequence[bytes | memoryview]


@define(eq=False)
class Outbound:
    """
    The end of the sequence that one end sends; lives as long as the link. It holds what was put in,
    not copies of it.

    @ivar end: bytes of the sequence so far.
    @ivar acknowledged: how many of them the other end has.
    """

    end: int = field(default=0, init=False)
    acknowledged: int = field(default=0, init=False)
    _begins: int = field(default=0, init=False)
    _kept: deque[tuple[int, Pieces]] = field(factory=deque, init=False)

    @property
    def size(self) -> int:
        """
        Bytes that are held.
        """
        return self.end - self._begins

    def append(self, pieces: Pieces, length: int) -> None:
        """
        Add whole frames.

        @param length: bytes in all pieces.
        """
        self.end += length
        self._kept.append((length, pieces))

    def acknowledge(self, received: int) -> None:
        """
        The other end has that many bytes of the sequence. What it had said before, and comes late
        over another path, changes nothing.

        @raise ProtocolViolation: when there were never so many.
        """
        if received > self.end:
            raise ProtocolViolation(f"acknowledges {received} bytes of {self.end}")
        if received <= self.acknowledged:
            return
        self.acknowledged = received
        kept = self._kept
        # Whole frames only: what is sent again begins with one.
        while kept and self._begins + kept[0][0] <= received:
            self._begins += kept.popleft()[0]

    def unacknowledged(self) -> tuple[int, Iterator[Pieces]]:
        """
        Where what must be sent again begins, and that.
        """
        return self._begins, (pieces for _, pieces in self._kept)

    def clear(self) -> None:
        """
        Nobody will ask for it any more.
        """
        self._kept.clear()
        self._begins = self.acknowledged = self.end
