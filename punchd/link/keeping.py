"""
Whether the other end still lives, and how long the way there and back takes.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from punchd.errors import ProtocolViolation, Unreachable
from punchd.link.sending import Sender
from punchd.net.pacing import Allowance

#: Seconds between pings while bytes move, and for how long after; and otherwise.
OFTEN = 1.0
LATELY = 10.0
SELDOM = 15.0

#: Seconds without a sign of life, after a ping, that end a path.
SILENCE = 5.0

#: Seconds until a measurement's answer must be there.
ANSWERING = 10.0

#: Pings that the other end may send, a second and at once.
PINGS_PER_SECOND = 5.0
PINGS_AT_ONCE = 50.0

#: How much of that this end uses, however often somebody measures: what was sent at intervals may
#: come at once.
SHARE = 0.5


@define(eq=False)
class Keeping:
    """
    The life signs of one session; lives as long. It is told of each path (L{watch}) and when there
    is none (L{rest}).

    @ivar roundTrip: seconds, as last measured on this path or the one before; C{None} before the
        first.
    @ivar leastRoundTrip: the least on this path: without what waits, as a rule.
    """

    _clock: IReactorTime
    _dead: Callable[[], None]
    roundTrip: float | None = field(default=None, init=False)
    leastRoundTrip: float | None = field(default=None, init=False)
    _sender: Sender | None = field(default=None, init=False)
    _tick: IDelayedCall | None = field(default=None, init=False)
    _movedAt: float = field(default=0.0, init=False)
    _hasMoved: bool = field(default=False, init=False)
    _isAsleep: bool = field(default=False, init=False)
    _heardAt: float = field(default=0.0, init=False)
    _hasHeard: bool = field(default=False, init=False)
    _wantedAt: float | None = field(default=None, init=False)
    _pingedAt: float = field(default=0.0, init=False)
    _sentAt: float | None = field(default=None, init=False)
    _number: int = field(default=0, init=False)
    _waiting: list[Deferred[float]] = field(factory=list, init=False)
    _listening: list[Deferred[None]] = field(factory=list, init=False)
    _theirs: Allowance = field(init=False)
    _ours: Allowance = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._theirs = Allowance(self._clock, PINGS_PER_SECOND, PINGS_AT_ONCE)
        self._ours = Allowance(self._clock, SHARE * PINGS_PER_SECOND, SHARE * PINGS_AT_ONCE)

    def watch(self, sender: Sender) -> None:
        """
        There is a path, or another one. It is measured at once.
        """
        self.rest()
        self._sender = sender
        self.leastRoundTrip = None
        self._movedAt = self._heardAt = self._clock.seconds()
        self._ping()
        self._schedule()

    def rest(self) -> None:
        """
        There is no path.
        """
        self._sender = self._wantedAt = self._sentAt = None
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None

    def moved(self) -> None:
        """
        Bytes of streams have come or gone.
        """
        self._hasMoved = True
        if self._isAsleep and self._tick is not None:
            self._isAsleep = False
            self._tick.reset(OFTEN)

    def heard(self) -> None:
        """
        Anything has come.
        """
        self._hasHeard = True
        if self._listening:
            self._tellListening()

    def _tellListening(self) -> None:
        listening, self._listening = self._listening, []
        for one in listening:
            one.callback(None)

    def _look(self) -> None:
        self._tick = None
        now = self._clock.seconds()
        if self._hasMoved:
            self._hasMoved = False
            self._movedAt = now
        if self._hasHeard:
            self._hasHeard = False
            self._heardAt = now
        if self._wantedAt is not None:
            if now - max(self._wantedAt, self._heardAt) >= SILENCE:
                self._dead()
                return
        elif self._waiting or now - self._pingedAt >= (OFTEN if self._isActive(now) else SELDOM):
            self._ping()
        self._schedule()

    def _isActive(self, now: float) -> bool:
        return now - self._movedAt < LATELY

    def _schedule(self) -> None:
        # While an answer is missing it looks often, however little moves.
        isMissing = self._wantedAt is not None or bool(self._waiting)
        self._isAsleep = not isMissing and not self._isActive(self._clock.seconds())
        self._tick = self._clock.callLater(SELDOM if self._isAsleep else OFTEN, self._look)

    def _ping(self) -> None:
        if self._sender is not None and self._wantedAt is None and self._ours.take():
            self._wantedAt = self._pingedAt = self._clock.seconds()
            self._sender.ping(self._goesOut)

    def _goesOut(self) -> int:
        self._sentAt = self._clock.seconds()
        self._number += 1
        return self._number

    def pinged(self) -> None:
        """
        The other end wants to know, and will be answered.

        @raise ProtocolViolation: when it does so all the time.
        """
        if not self._theirs.take():
            raise ProtocolViolation(f"more than {PINGS_PER_SECOND:.0f} PINGs a second")

    def ponged(self, number: int) -> None:
        """
        The other end has answered. The answer to a ping from before another path had its turn is
        of no use.

        @raise ProtocolViolation: when nobody has asked.
        """
        if number < self._number:
            return
        if self._sentAt is None or number != self._number:
            raise ProtocolViolation("PONG without PING")
        self.roundTrip = self._clock.seconds() - self._sentAt
        self.leastRoundTrip = min(self.roundTrip, self.leastRoundTrip or self.roundTrip)
        self._wantedAt = self._sentAt = None
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(self.roundTrip)

    def measure(self) -> Deferred[float]:
        """
        Fires with the seconds. Who asks while a ping is under way shares it; who asks all the time
        has to wait for the next one.
        """
        waiting: Deferred[float] = Deferred(self._forget)
        self._waiting.append(waiting)
        waiting.addTimeout(ANSWERING, self._clock, _noAnswer)
        self._ping()
        if self._isAsleep and self._tick is not None:
            self._isAsleep = False
            self._tick.reset(OFTEN)
        return waiting

    def _forget(self, waiting: Deferred[float]) -> None:
        self._waiting.remove(waiting)

    def signOfLife(self) -> Deferred[None]:
        """
        Fires as soon as anything comes, for which the other end is pinged; at once when it was
        pinged so often lately that it cannot be now. The answer itself comes much later where much
        else does.
        """
        self._ping()
        if self._wantedAt is None:
            return succeed(None)
        listening: Deferred[None] = Deferred(self._listening.remove)
        self._listening.append(listening)
        return listening

    def end(self) -> None:
        """
        There will be no more answers.
        """
        self.rest()
        self._tellListening()
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.errback(Unreachable("the link ended"))


def _noAnswer(result: object, seconds: float) -> Failure:
    return Failure(Unreachable(f"no answer from the other end within {seconds:.0f} s"))
