"""
What goes out of a session, and in which order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from punchd.link.paths import Paths
from punchd.link.restraint import Restraint
from punchd.link.sequence import Outbound
from punchd.link.stream import Stream
from punchd.link.turns import Turns
from punchd.wire.frames import HEAD_LENGTH, MAX_DATA

#: Bytes of streams that are encrypted and written at once, and in one turn of the reactor, unless
#: the path is too slow for so many. Each turn costs as much as some 50 KiB of its bytes; but
#: whoever has little to send waits for the one before.
TOGETHER = 8 * MAX_DATA

#: The same, while somebody waits for an answer: what was asked comes between two such writes.
#: Beside a stream as fast as two processors can make it, a request takes less than half as long.
FEW = 2 * MAX_DATA

#: Bytes of a write for whose answer somebody waits. A source that is as fast as it can be gives
#: larger ones, also when little was left of what it gave before.
REQUEST = 4096

#: Seconds after such a write for which somebody waits, or has more to say.
WAITING = 0.05

#: Frames that a stream sends before the next one has its turn, while nobody waits. What goes
#: together costs less, most of all at the other end, which writes it at once.
TURN = 4

#: Bytes that wait for the end of the reactor's turn, so that small writes go out together.
SMALL = 16384

#: Seconds that are soon: more than a turn of the reactor takes that writes in a loop, and less than
#: any answer. (To be told of the end of each turn would cost more than a look at the clock.)
SOON = 0.0001

#: Bytes of frames that are no C{DATA}, beyond what may be unacknowledged, until an end that
#: acknowledges nothing is given up.
SLACK = 1024 * 1024


@define(eq=False)
class Pump:
    """
    Made with its session. Takes frames that are no C{DATA} first, then some full ones of each
    stream in its turn, as long as the path takes them and not too much is unacknowledged.

    @ivar whenBegun: called before anything is sent.
    @ivar whenDone: called when nothing more can be sent for now.
    """

    _clock: IReactorTime
    _outbound: Outbound
    _paths: Paths
    _most: int
    _whenBegun: Callable[[], None]
    _whenDone: Callable[[], None]
    _moved: Callable[[], None]
    _overdue: Callable[[str], None]
    _control: list[bytes] = field(factory=list, init=False)
    _ready: Turns = field(factory=Turns, init=False)
    _ends: deque[tuple[int, Stream]] = field(factory=deque, init=False)
    _restraint: Restraint = field(init=False)
    _turn: IDelayedCall | None = field(default=None, init=False)
    _wroteAt: float = field(default=float("-inf"), init=False)
    _hurriesUntil: float = field(default=float("-inf"), init=False)
    # The last stream of which somebody waits for an answer.
    _asking: int = field(default=0, init=False)
    _isRunning: bool = field(default=False, init=False)
    _isOver: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._restraint = Restraint(self._clock, self.run)

    def send(self, frame: bytes) -> None:
        """
        Send a frame that is no C{DATA}, at the end of this turn of the reactor.
        """
        if not self._isOver:
            self._control.append(frame)
            self.runSoon()

    def ready(self, stream: Stream) -> None:
        """
        C{stream} has bytes, or its end, to send. A small write goes out at once, those that follow
        soon go together at the end of a turn of the reactor.
        """
        self._add(stream)
        if self._isRunning:
            return
        queued = stream.queued
        if queued > SMALL:
            self.run()
            return
        now = self._clock.seconds()
        if 0 < queued <= REQUEST:
            self._asking = stream.number
            self._hurry(now)
        if self._turn is None and now - self._wroteAt >= SOON:
            self._wroteAt = now
            self.run()
        else:
            self.runSoon()

    def readySoon(self, stream: Stream) -> None:
        """
        The same, where others may follow in this turn of the reactor: what they send goes together.
        """
        self._add(stream)
        self.runSoon()

    def _add(self, stream: Stream) -> None:
        stream.isReady = True
        self._ready.add(stream, min(stream.queued, TURN * MAX_DATA))

    def _hurry(self, now: float) -> None:
        # Not for each one.
        if now + WAITING / 2 > self._hurriesUntil:
            self._hurriesUntil = now + WAITING
            self._paths.hurry(WAITING)

    def runSoon(self) -> None:
        """
        Send at the end of this turn of the reactor.
        """
        if self._turn is None and not self._isOver:
            self._turn = self._clock.callLater(0, self._turnEnded)

    def _turnEnded(self) -> None:
        self._turn = None
        self.run()

    def run(self) -> None:
        """
        Send what can be sent.
        """
        if self._isRunning or self._isOver:
            return
        self._isRunning = True
        self._whenBegun()
        most, frames = (FEW, 1) if self._isHurried else (TOGETHER, TURN)
        path = self._paths.path
        if path is not None:
            most = min(most, path.portion)
        left = most
        try:
            while True:
                if self._control:
                    self._flushControl()
                elif self._ready and self._mayTake():
                    if left <= 0:
                        # Others have their turn.
                        self.runSoon()
                        break
                    taken = self._takeSome(most, frames)
                    if not (taken or self._control) and self._ready:
                        # All that wait are held back.
                        break
                    left -= taken
                else:
                    break
        finally:
            self._isRunning = False
        self._whenDone()

    @property
    def hasWork(self) -> bool:
        """
        Whether something waits to be sent.
        """
        return bool(self._control or self._ready)

    @property
    def hasArrived(self) -> bool:
        """
        Whether the other end has all that was sent, and nothing waits.
        """
        return not (self._control or self._ready or self._outbound.size)

    def _flushControl(self) -> None:
        frames, self._control = self._control, []
        self._append(frames, sum(map(len, frames)))
        if self._outbound.size > self._most + SLACK:
            self._overdue("the other end acknowledges nothing")

    @property
    def _isHurried(self) -> bool:
        # The system's clock may be put back.
        return 0 < self._hurriesUntil - self._clock.seconds() < 2 * WAITING

    def _begin(self) -> Stream | None:
        """
        Whose turn it is; C{None} when all are held back, until the pump is run again for them.
        """
        if self._isHurried and self._restraint.holds():
            return self._ready.beginOf(lambda stream: not self._isHeavy(stream))
        return self._ready.begin()

    def _isHeavy(self, stream: Stream) -> bool:
        """
        Whether C{stream} has much to send, for which somebody else may wait.
        """
        return stream.queued > SMALL and stream.number != self._asking

    def _mayTake(self) -> bool:
        sender = self._paths.sender
        return sender is not None and sender.isWritable and self._outbound.size < self._most

    def _takeSome(self, most: int, frames: int) -> int:
        ready = self._ready
        # On a slow path, what comes between two frames need not wait for so much.
        full = min(most, MAX_DATA)
        room = min(most, self._most - self._outbound.size)
        pieces: list[bytes | memoryview] = []
        size = 0
        ended: list[Stream] = []
        began, isHeavy = self._clock.seconds(), False
        # What opens a stream, for one, must not come behind its data.
        while ready and size < room and not self._control:
            stream = self._begin()
            if stream is None:
                break
            isHeavy = isHeavy or self._isHeavy(stream)
            taken = 0
            if stream.hasSomething:
                # Who is alone need not take turns.
                left = -(-(room - size) // full)
                taken = stream.take(
                    pieces, min(frames, left) if ready else left, full - HEAD_LENGTH
                )
                size += taken
                if stream.hasSentEnd:
                    ended.append(stream)
            ready.end(stream, taken)
            stream.isReady = False
            if stream.hasSomething:
                self._add(stream)
        if size:
            self._append(pieces, size)
            self._moved()
        if isHeavy:
            self._restraint.wrote(began)
        for stream in ended:
            self._ends.append((self._outbound.end, stream))
            stream.finLeft()
        return size

    def _append(self, pieces: list[bytes | memoryview] | list[bytes], size: int) -> None:
        self._outbound.append(pieces, size)
        self._paths.send(pieces)

    def acknowledged(self, received: int) -> None:
        """
        The other end has so many bytes of the sequence.
        """
        self._outbound.acknowledge(received)
        ends = self._ends
        while ends and ends[0][0] <= received:
            ends.popleft()[1].finArrived()

    def sendLast(self, frame: bytes) -> None:
        """
        Send a frame before anything can happen that would prevent it. It overtakes what waits, as
        nobody will need that any more.
        """
        if not self._isOver:
            self._flushControl()
            self._paths.sendLast([frame])

    def end(self) -> None:
        """
        The session is over.
        """
        self._isOver = True
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        self._restraint.end()
        self._control = []
        self._ready.clear()
        self._ends.clear()
        self._outbound.clear()
