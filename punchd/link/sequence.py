"""
What a link has sent and the other end has not yet acknowledged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from attrs import define, field, frozen

from punchd.errors import ProtocolViolation

#: Bytes of whole frames, in pieces that are written one behind the other.
Pieces = Sequence[bytes | memoryview]

#: Bytes of a piece in the mean below which a copy is held instead, together with others up to
#: L{TOGETHER} bytes: the objects of such a piece, and what was allocated to read it, are many times
#: its size.
SMALL = 512
TOGETHER = 4096


@frozen(eq=False)
class _Kept:
    """
    What was written together.
    """

    pieces: Pieces
    _length: int

    def __len__(self) -> int:
        return self._length


@define(eq=False)
class Outbound:
    """
    The end of the sequence that one end sends; lives as long as the link. It holds what was put in,
    not copies of it, unless that is small.

    @ivar end: bytes of the sequence so far.
    @ivar acknowledged: how many of them the other end has.
    """

    end: int = field(default=0, init=False)
    acknowledged: int = field(default=0, init=False)
    _begins: int = field(default=0, init=False)
    _kept: deque[_Kept | bytearray] = field(factory=deque, init=False)

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
        kept = self._kept
        if length >= SMALL * len(pieces):
            kept.append(_Kept(pieces, length))
        elif kept and isinstance(kept[-1], bytearray) and len(kept[-1]) + length <= TOGETHER:
            kept[-1] += b"".join(pieces)
        else:
            kept.append(bytearray().join(pieces))

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
        while kept and self._begins + len(kept[0]) <= received:
            self._begins += len(kept.popleft())

    def unacknowledged(self) -> tuple[int, Iterator[Pieces]]:
        """
        Where what must be sent again begins, and that.
        """
        return self._begins, (
            [bytes(one)] if isinstance(one, bytearray) else one.pieces for one in self._kept
        )

    def clear(self) -> None:
        """
        Nobody will ask for it any more.
        """
        self._kept.clear()
        self._begins = self.acknowledged = self.end
