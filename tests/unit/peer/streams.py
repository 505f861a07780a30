"""
Streams on a link in memory, for those who use them.
"""

from collections.abc import Callable

from punchd.link.stream import Stream
from tests.unit.link.wires import Link


class Sides:
    """
    Alice, who opens a stream on a link, and Bob, whose service it is for.

    @ivar caller: Alice's end, once it is opened; C{callee}: Bob's.
    """

    caller: Stream
    callee: Stream

    def __init__(self, answer: Callable[[Stream, str], None] | None = None) -> None:
        """
        @param answer: what Bob does; by default nothing yet.
        """
        self.link = Link()
        self.clock = self.link.clock
        self._answer = answer
        self.link.bobOwner.answer = self._asked

    def open(self, service: str) -> Stream:
        """
        Open the stream.
        """
        self.caller = self.link.alice.openStream(service)
        return self.caller

    def _asked(self, stream: Stream, service: str) -> None:
        self.callee = stream
        if self._answer is not None:
            self._answer(stream, service)

    def flush(self) -> None:
        """
        Deliver everything that is under way.
        """
        self.link.flush()

    def end(self) -> None:
        """
        End the link, and expect that nothing is left to be done.
        """
        self.link.end()
