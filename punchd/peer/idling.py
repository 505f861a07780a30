"""
When a link that nobody uses ends.
"""

from __future__ import annotations

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from punchd.link.session import Session
from punchd.link.stream import Stream

#: Seconds after which a link without streams ends.
IDLE = 900.0


@define(eq=False)
class Idling:
    """
    Ends a session that has had no stream for L{IDLE} seconds. Made with its link.
    """

    _clock: IReactorTime
    _session: Session
    _timer: IDelayedCall | None = field(default=None, init=False)

    def begin(self) -> None:
        """
        Time counts from now on, unless there are streams, or it counts already.
        """
        if self._timer is None and not self._session.streams and not self._session.isOver:
            self._timer = self._clock.callLater(IDLE, self._timeIsUp)

    def watch(self, stream: Stream) -> Stream:
        """
        A stream has begun; time begins to count when the last one is over.
        """
        self.end()
        stream.whenOver().addCallback(lambda _: self.begin())
        return stream

    def end(self) -> None:
        """
        Time does not count.
        """
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _timeIsUp(self) -> None:
        self._timer = None
        why = "nobody has used it for long"
        if self._session.isConnected:
            self._session.close(why)
        else:
            # Not worth dialling for; the other end learns it when it does.
            self._session.abort(why)
