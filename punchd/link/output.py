"""
What is written to one stream, until the link takes it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.interfaces import IReactorTime

from punchd.link.flow import EARLY, Credit
from punchd.link.pulling import PullAdapter
from punchd.link.telling import tell
from punchd.wire.frames import FULL_DATA, HEAD_LENGTH, Kind, packFrame, packHead

#: Bytes that are queued before the producer is paused.
QUEUED = 65536


@define(eq=False)
class Output:
    """
    Made with its stream; lives as long. The producer is paused when too much is queued, whether
    because the other end grants no more or because the path takes no more, and goes on when
    nothing is.

    @ivar credit: what the other end grants.
    @ivar written: bytes, in all.
    @ivar queued: bytes of them that wait.
    @ivar isEnding: whether nothing more will be written. While there is a producer, it may.
    @ivar hasEnded: whether the last frame was taken.
    """

    _clock: IReactorTime
    _number: int
    _failed: Callable[[], None]
    credit: Credit = field(factory=lambda: Credit(EARLY), init=False)
    written: int = field(default=0, init=False)
    queued: int = field(default=0, init=False)
    isEnding: bool = field(default=False, init=False)
    hasEnded: bool = field(default=False, init=False)
    _queue: deque[bytes | memoryview] = field(factory=deque, init=False)
    _producer: Any = field(default=None, init=False)
    _isPaused: bool = field(default=False, init=False)

    def write(self, data: bytes) -> None:
        """
        Queue C{data}, unless this is after the end.
        """
        if self.hasEnded or (self.isEnding and self._producer is None) or not data:
            return
        length = len(data)
        self.written += length
        self.queued += length
        self._queue.append(data)

    def pauseIfFull(self) -> None:
        """
        Let the producer wait, if too much is queued.
        """
        if self.queued > QUEUED and self._producer is not None and not self._isPaused:
            self._isPaused = True
            self._producer.pauseProducing()

    @property
    def hasSomething(self) -> bool:
        """
        Whether there is something that may be sent now.
        """
        if self.queued:
            return self.credit.limit > self.credit.sent
        return self.isEnding and not self.hasEnded and self._producer is None

    def take(self, pieces: list[bytes | memoryview], most: int = 1, full: int = FULL_DATA) -> int:
        """
        Add C{most} frames, or what there is, and perhaps the last one, to C{pieces}.

        @param full: the most bytes of the stream in one frame.
        @return: their bytes.
        """
        credit = self.credit
        left = taken = min(self.queued, credit.limit - credit.sent, most * full)
        credit.sent += left
        self.queued -= left
        while left:
            length = min(left, full)
            pieces.append(packHead(Kind.DATA, length, self._number))
            self._cut(pieces, length)
            taken += HEAD_LENGTH
            left -= length
        if self.queued:
            return taken
        if self.isEnding and not self.hasEnded and self._producer is None:
            pieces.append(packFrame(Kind.FIN, b"", self._number))
            taken += HEAD_LENGTH
            self.hasEnded = True
        elif self._isPaused:
            self._isPaused = False
            if not tell(self._producer.resumeProducing):
                # Others have something in the same write.
                self._failed()
        return taken

    def _cut(self, pieces: list[bytes | memoryview], length: int) -> None:
        queue = self._queue
        while length:
            first = queue.popleft()
            if len(first) > length:
                view = memoryview(first)
                pieces.append(view[:length])
                queue.appendleft(view[length:])
                return
            pieces.append(first)
            length -= len(first)

    def register(self, producer: Any, streaming: bool) -> None:
        """
        Let C{producer} be told when it may write.
        """
        if self._producer is not None:
            raise RuntimeError("this stream has a producer already")
        self._producer = producer if streaming else PullAdapter(self._clock, producer)
        if self.queued > QUEUED:
            self._isPaused = True
            self._producer.pauseProducing()
        elif not streaming:
            self._producer.resumeProducing()

    def unregister(self) -> None:
        """
        The producer is done.
        """
        if isinstance(self._producer, PullAdapter):
            self._producer.pauseProducing()
        self._producer = None
        self._isPaused = False

    def stop(self) -> None:
        """
        Nothing of this will be sent any more.
        """
        self._queue.clear()
        self.queued = 0
        self.hasEnded = True
        producer, self._producer = self._producer, None
        if producer is not None:
            tell(producer.stopProducing)
