"""
How much a stream may send before its other end has read: windows, and what they may take together.
"""

from __future__ import annotations

from attrs import define, field, frozen

from punchd.errors import ProtocolViolation

_KiB = 1024
_MiB = 1024 * _KiB

#: Bytes of a stream that its opener may send before it hears C{OPENED}. Every stream may have them,
#: whatever there is else.
EARLY = 16 * _KiB

#: What one link may take, unless it is told otherwise: see L{Limits}.
UNACKNOWLEDGED = 16 * _MiB
BUFFERED = 48 * _MiB
STREAMS = 1024
SURVIVAL = 600.0

#: The most that a window may grant beyond what was sent: more is a mistake.
ABSURD = 1024 * _MiB

# Which part of what is left a window may take: when its stream opens, and may remain idle, and when
# it was fast.
_OPENING, _GROWING = 16, 2

#: Round trips in which a window is read whose sender is held up by it. More is granted when half of
#: it was read; where the halves are not quite equal, the lesser one waits for the other, and each
#: takes a round trip, and a little for the processes at both ends.
HELD_UP = 3

#: Seconds that a round trip is taken for at least: where it is shorter, the processes at both ends
#: take longer than the network. With twice as many, on a path without delay, windows grow until
#: megabytes wait in front of a busy receiver, and whatever else it should hear waits behind them.
_SHORTEST = 0.0017

#: The same, before it was measured.
_UNKNOWN = 0.1


@frozen
class Limits:
    """
    What one link may take.

    @ivar unacknowledged: bytes that are kept for being sent again.
    @ivar buffered: bytes that the other end may make us hold, unread, over all streams. L{EARLY}
        for each stream are set aside.
    @ivar firstWindow: bytes of a stream's window when it opens, C{mostWindow}: when it is fast.
    @ivar streams: at once.
    @ivar survival: seconds for which the link waits without a path.
    """

    unacknowledged: int = UNACKNOWLEDGED
    buffered: int = BUFFERED
    firstWindow: int = 512 * _KiB
    mostWindow: int = 16 * _MiB
    streams: int = STREAMS
    survival: float = SURVIVAL


@define(eq=False)
class Budget:
    """
    What the windows of one link take together, beyond L{EARLY} for each.
    """

    _left: int

    @classmethod
    def of(cls, limits: Limits) -> Budget:
        """
        The budget of a link with these limits.
        """
        return cls(limits.buffered - limits.streams * EARLY)

    def take(self, wanted: int, share: int) -> bool:
        """
        Take C{wanted} bytes, unless that is more than one of C{share} parts of what is left: so
        there is always something for the next one.
        """
        if wanted * share > self._left:
            return False
        self._left -= wanted
        return True

    def giveBack(self, taken: int) -> None:
        """
        The inverse.
        """
        self._left += taken


@define(eq=False)
class Window:
    """
    The receiver's side of one stream's flow: what it grants. Lives as long as the stream.

    @ivar size: bytes that may be unread.
    @ivar granted: up to which byte of the stream its other end may send; C{received}: has sent;
        C{consumed}: was read.
    """

    _budget: Budget
    _limits: Limits
    size: int = field(default=EARLY, init=False)
    granted: int = field(default=EARLY, init=False)
    received: int = field(default=0, init=False)
    consumed: int = field(default=0, init=False)
    _mark: int = field(default=0, init=False)
    _since: float = field(default=0.0, init=False)

    def open(self, now: float) -> int:
        """
        The stream is there at both ends: give it its first window, or what there is of it.

        @return: the window's size.
        """
        size = self._limits.firstWindow
        while size > EARLY and not self._grow(size, _OPENING):
            size //= 2
        self.granted = self.consumed + self.size
        self._since = now
        return self.granted

    def receive(self, length: int) -> None:
        """
        Bytes have come.

        @raise ProtocolViolation: when more have come than were granted.
        """
        self.received += length
        if self.received > self.granted:
            raise ProtocolViolation(f"{self.received - self.granted} bytes past the window")

    def consume(self, length: int) -> bool:
        """
        Bytes were read.

        @return: whether it is time to grant more.
        """
        self.consumed += length
        return (self.granted - self.consumed) * 2 <= self.size

    def grant(self, now: float, roundTrip: float | None) -> int:
        """
        Grant more. A window doubles that holds its sender up: see L{HELD_UP}.

        @param roundTrip: seconds, if known; without what waits on the way, or windows would grow
            because they have grown.
        @return: up to which byte of the stream may be sent.
        """
        used = self.consumed - self._mark
        if used * 2 >= self.size:
            trip = _UNKNOWN if roundTrip is None else max(roundTrip, _SHORTEST)
            if (now - self._since) * self.size <= HELD_UP * trip * used:
                self._grow(min(2 * self.size, self._limits.mostWindow), _GROWING)
            self._mark = self.consumed
            self._since = now
        self.granted = self.consumed + self.size
        return self.granted

    def _grow(self, size: int, share: int) -> bool:
        if size <= self.size or not self._budget.take(size - self.size, share):
            return False
        self.size = size
        return True

    def close(self) -> None:
        """
        The stream is over.
        """
        self._budget.giveBack(self.size - EARLY)
        self.size = EARLY


@define(eq=False)
class Credit:
    """
    The sender's side of one stream's flow.

    @ivar limit: up to which byte of the stream may be sent.
    @ivar sent: how many were.
    """

    limit: int
    sent: int = field(default=0, init=False)

    @property
    def left(self) -> int:
        """
        Bytes that may be sent now.
        """
        return self.limit - self.sent

    def extend(self, limit: int) -> None:
        """
        The other end grants more.

        @raise ProtocolViolation: when it takes back what it had granted, or grants what nobody can
            mean.
        """
        if limit < self.limit:
            raise ProtocolViolation(f"credit shrinks from {self.limit} to {limit}")
        if limit - self.sent > ABSURD:
            raise ProtocolViolation(f"credit for {limit - self.sent} bytes")
        self.limit = limit
