"""
What a command says, as far as it goes to the log.
"""

from __future__ import annotations

from collections import deque

from attrs import define, field

#: Lines of one run that are kept, the latest, and bytes of each one's beginning.
MOST_LINES = 20
MOST_LINE = 300


@define(eq=False)
class Output:
    """
    Made for one run.

    @ivar size: bytes that have come.
    """

    size: int = field(default=0, init=False)
    _lines: deque[str] = field(factory=lambda: deque(maxlen=MOST_LINES), init=False)
    _count: int = field(default=0, init=False)
    # The line that is not complete yet.
    _last: bytes = field(default=b"", init=False)

    def take(self, data: bytes) -> None:
        """
        A piece has come.
        """
        self.size += len(data)
        *lines, last = data.split(b"\n")
        for line in lines:
            self._add(self._last + line[:MOST_LINE])
            self._last = b""
        self._last = (self._last + last[:MOST_LINE])[:MOST_LINE]

    def _add(self, line: bytes) -> None:
        text = line[:MOST_LINE].decode("utf-8", "replace").expandtabs().rstrip()
        if text:
            self._count += 1
            # Nothing that moves a terminal's cursor, or looks like another line of the log.
            self._lines.append("".join(one if one.isprintable() else "�" for one in text))

    def close(self) -> tuple[str, ...]:
        """
        No more comes.

        @return: the lines.
        """
        self._add(self._last)
        self._last = b""
        more = self._count - len(self._lines)
        return (*([f"({more} lines before that)"] if more else []), *self._lines)
