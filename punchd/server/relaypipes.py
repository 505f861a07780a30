"""
Pipes through which the kernel moves bytes from one socket to another (splice(2)), so that the relay
never touches them.
"""

from __future__ import annotations

import fcntl
import os

from attrs import define, field

#: Bytes that a pipe may hold: as many as an ordinary user may ask for. A pipe has a place for each
#: 4 KiB of it, and what came in one segment takes one, however short.
CAPACITY = 1 << 20

#: Pipes in use at a time. A way between two ends has one only while it holds bytes that the kernel
#: will not take off it yet; Linux lets an ordinary user have 64 of this size.
MOST_PIPES = 64

# Those that nobody uses and that are kept open.
_MOST_SPARE = 8


@define(eq=False)
class Pipe:
    """
    One pipe, on loan from L{Pipes}.

    @ivar readEnd: a file descriptor; so is C{writeEnd}.
    @ivar holds: bytes that are in it.
    """

    readEnd: int
    writeEnd: int
    holds: int = field(default=0, init=False)

    def close(self) -> None:
        """
        Drop it, with what it holds.
        """
        os.close(self.readEnd)
        os.close(self.writeEnd)


@define(eq=False)
class Pipes:
    """
    The pipes of one relay. Made and closed by the server.

    @ivar most: how many may be in use; with 0 there are none, and the relay copies.
    """

    most: int = MOST_PIPES
    _spare: list[Pipe] = field(factory=list, init=False)
    _lent: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        if not hasattr(os, "splice"):
            self.most = 0

    def take(self) -> Pipe | None:
        """
        An empty pipe, to be given back; C{None} when there is none to be had.
        """
        if self._lent >= self.most:
            return None
        if self._spare:
            pipe = self._spare.pop()
        else:
            try:
                pipe = Pipe(*os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC))
            except OSError:
                # Out of file descriptors: those who are here go on, at a higher price.
                return None
            _widen(pipe)
        self._lent += 1
        return pipe

    def give(self, pipe: Pipe) -> None:
        """
        C{pipe} is not needed any more.
        """
        self._lent -= 1
        if pipe.holds or len(self._spare) >= _MOST_SPARE:
            pipe.close()
        else:
            self._spare.append(pipe)

    def close(self) -> None:
        """
        There will be no more.
        """
        self.most = 0
        while self._spare:
            self._spare.pop().close()

    @property
    def lent(self) -> int:
        """
        How many are in use.
        """
        return self._lent


def _widen(pipe: Pipe) -> None:
    try:
        fcntl.fcntl(pipe.writeEnd, fcntl.F_SETPIPE_SZ, CAPACITY)
    except OSError:
        # The user has too many already; a small one does it, too.
        return
