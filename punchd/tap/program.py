"""
What C{twistd} runs: a server or a peer, from its start until it may end, under the eyes of whoever
has started it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.application.service import IService, MultiService
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized
from twisted.python.failure import Failure

from punchd.tap.supervisor import Supervisor

#: Seconds between looks at how it goes; and until it is ready.
PERIOD = 1.0
IMPATIENCE = 0.1

#: Seconds after which a person is told what the end waits for.
SILENCE = 0.5

#: Seconds that closing takes at the most, after the drain.
CLOSING = 10.0

#: Seconds that it takes at the most when somebody is in a hurry.
HURRY = 1.0

# Signs of life within the time in which one must come.
_SIGNS = 3

_log = Logger()


class Task(Protocol):
    """
    What is known of the service that runs.
    """

    def isReady(self, running: float) -> bool:
        """
        Whether it does what it was started for.

        @param running: seconds since it was started.
        """

    def line(self) -> str:
        """
        How it goes, for a person.
        """

    def drain(self) -> Deferred[None]:
        """
        Begin to end: take nothing new. Fires when nothing is left that should be finished.
        """


class Program(MultiService):
    """
    Made by the plugins of C{twistd}, for one service.

    When it is to stop, what runs gets some seconds to finish (L{Task.drain}); then the service is
    stopped. At a second signal, it ends at once.
    """

    def __init__(
        self,
        clock: IReactorTime,
        service: IService,
        task: Task,
        supervisor: Supervisor,
        *,
        patience: float,
        whenSignalled: Callable[[Callable[[], None]], None],
        observer: ILogObserver | None = None,
    ) -> None:
        """
        @param patience: seconds that draining may take.
        @param whenSignalled: lets its argument be called at the next signal to end.
        @param observer: what shall write the log, instead of C{twistd}'s own.
        """
        super().__init__()
        service.setServiceParent(self)
        self._clock = clock
        self._task = task
        self._supervisor = supervisor
        self._patience = patience
        self._whenSignalled = whenSignalled
        self._observer = observer
        self._looking: IDelayedCall | None = None
        self._startedAt = self._livedAt = float("-inf")
        self._isKnownReady = False
        self._isStopping = False
        self._draining: Deferred[None] | None = None
        self._ended: Deferred[None] = Deferred()

    def setServiceParent(self, parent: Any) -> None:
        super().setServiceParent(parent)
        if self._observer is not None and isinstance(parent, Componentized):
            # Where twistd looks for it.
            parent.setComponent(ILogObserver, self._observer)

    def startService(self) -> None:
        super().startService()
        self._startedAt = self._clock.seconds()
        if self._supervisor:
            self._look()

    def _look(self) -> None:
        now = self._clock.seconds()
        supervisor = self._supervisor
        if not self._isStopping:
            supervisor.status(self._task.line())
            if not self._isKnownReady and self._task.isReady(now - self._startedAt):
                self._isKnownReady = supervisor.isReady()
        period = PERIOD if self._isKnownReady else IMPATIENCE
        if supervisor.watchdog is not None:
            rhythm = supervisor.watchdog / _SIGNS
            period = min(period, rhythm)
            if now - self._livedAt >= rhythm:
                self._livedAt = now
                supervisor.lives()
        self._looking = self._clock.callLater(period, self._look)

    def stopService(self) -> Deferred[None]:
        if self._isStopping:
            return self._ended
        self._isStopping = True
        self._supervisor.stops(self._patience + CLOSING)
        self._whenSignalled(self.hurry)
        Deferred.fromCoroutine(self._stop()).addBoth(self._end)
        return self._ended

    async def _stop(self) -> None:
        if self._patience:
            self._supervisor.status(f"stopping: what runs has {self._patience:.0f} s to finish")
            draining = self._draining = self._task.drain()
            draining.addTimeout(self._patience, self._clock, _breaksOff).addErrback(_cutShort)
            telling = self._clock.callLater(SILENCE, _waits, self._patience)
            await draining
            self._draining = None
            if telling.active():
                telling.cancel()
        self._supervisor.status("stopping")
        await maybeDeferred(super().stopService)

    def hurry(self) -> None:
        """
        It is to end now, even if something of it is not finished.
        """
        if not self._ended.called:
            _log.info("ends at once")
            self._clock.callLater(HURRY, self._end, None)
            if self._draining is not None:
                self._draining.cancel()

    def _end(self, result: object) -> None:
        if not self._ended.called:
            if self._looking is not None and self._looking.active():
                self._looking.cancel()
            self._ended.callback(None)


def _waits(seconds: float) -> None:
    _log.info(
        "what runs has {seconds:.0f} s to finish; at a second signal, or Ctrl-C once more, it ends"
        " at once",
        seconds=seconds,
    )


def _breaksOff(result: Any, _seconds: float) -> Any:
    # Whether or not it fails when it is cancelled.
    _log.info("what has not finished by now is broken off")
    return result


def _cutShort(failure: Failure) -> None:
    if failure.check(CancelledError) is None:
        _log.failure("while what runs was to finish", failure)
