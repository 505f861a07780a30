"""
Whose turn it is to send.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from itertools import count

from attrs import define, field

from punchd.link.stream import Stream


@define(eq=False)
class Turns:
    """
    The streams of one link that have something to send. Next comes who would be done first if all
    sent at once, a byte of each in turn. So those that send as much as they can get the same,
    whatever the length of their turns; and who has a request to send waits for one turn of another,
    not for one of each.

    This is fair queueing (Demers, Keshav and Shenker, I{Analysis and Simulation of a Fair Queueing
    Algorithm}, 1989).

    @ivar _round: how many bytes a stream has sent that has always had something to send; C{_rest}:
        bytes that were sent after this round.
    """

    _waiting: list[tuple[int, int, Stream]] = field(factory=list, init=False)
    _places: Iterator[int] = field(factory=count, init=False)
    _round: int = field(default=0, init=False)
    _rest: int = field(default=0, init=False)

    def __bool__(self) -> bool:
        """
        Whether anybody waits.
        """
        return bool(self._waiting)

    def add(self, stream: Stream, size: int) -> None:
        """
        C{stream}, which is not here, has C{size} bytes to send in its next turn.
        """
        if stream.sentInRounds < self._round:
            stream.sentInRounds = self._round
        done = stream.sentInRounds + size
        heappush(self._waiting, (done, next(self._places), stream))

    def begin(self) -> Stream:
        """
        Whose turn it is. It waits no more.

        @raise IndexError: when nobody waits.
        """
        return heappop(self._waiting)[2]

    def beginOf(self, may: Callable[[Stream], bool]) -> Stream | None:
        """
        The same of those that C{may}; C{None} when none of them waits.
        """
        first = min((one for one in self._waiting if may(one[2])), default=None)
        if first is None:
            return None
        self._waiting.remove(first)
        heapify(self._waiting)
        return first[2]

    def end(self, stream: Stream, size: int) -> None:
        """
        C{stream} has sent C{size} bytes in its turn, which is over.
        """
        stream.sentInRounds += size
        rounds, self._rest = divmod(self._rest + size, len(self._waiting) + 1)
        self._round += rounds

    def clear(self) -> None:
        """
        Nobody waits.
        """
        self._waiting.clear()
