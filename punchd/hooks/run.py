"""
One run of a command: begun, given time, and ended with all that it has started.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from signal import SIGKILL, SIGTERM, strsignal

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater

from punchd.hooks.child import Child, Spawn
from punchd.hooks.command import Command
from punchd.hooks.output import Output

#: Seconds from SIGTERM to SIGKILL; and from there until we wait no longer: a process may be another
#: user's, or hang in the kernel.
TERM_PATIENCE = 5.0
KILL_PATIENCE = 5.0

#: Seconds that what a command has left running in its group has to end by itself, once the command
#: is over; then again after SIGTERM; and to say what it has to say.
LEFTOVERS_PATIENCE = 1.0

#: kill(2): only looks whether there is anybody.
_NO_SIGNAL = 0

#: Bytes of output after which a command is ended.
MOST_OUTPUT = 1 << 20


@frozen
class Ending:
    """
    How a run has ended.

    @ivar problem: what went wrong; C{None} if nothing did.
    @ivar output: the latest lines that it has said.
    @ivar wasEnded: whether it was ended before its time, so that it depends on chance what it said.
    """

    problem: str | None
    output: tuple[str, ...] = ()
    wasEnded: bool = False


@define(eq=False)
class Run:
    """
    Made for one run, and started once.
    """

    _clock: IReactorTime
    _spawn: Spawn
    _command: Command
    _child: Child | None = field(default=None, init=False)
    _output: Output = field(factory=Output, init=False)
    _why: str | None = field(default=None, init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)
    # Fires when the process is over, or will never be.
    _over: Deferred[int | None] = field(factory=Deferred, init=False)

    def start(self, environment: Mapping[str, str]) -> Deferred[Ending]:
        """
        @return: fires when it is over.
        """
        return Deferred.fromCoroutine(self._run(environment))

    def end(self, why: str, within: float = 0.0) -> None:
        """
        End it, if it has not ended in so many seconds, or at its deadline.
        """
        timer = self._timer
        if self._why is None and timer is not None:
            within = min(within, timer.getTime() - self._clock.seconds())
            timer.cancel()
            self._timer = self._clock.callLater(max(0.0, within), self._terminate, why)

    async def _run(self, environment: Mapping[str, str]) -> Ending:
        try:
            child = self._spawn(self._command.words, environment, self._took)
        except OSError as error:
            return Ending(f"cannot be started: {error.strerror or error}")
        self._child = child
        deadline = self._command.deadline
        why = f"took longer than {deadline:g} s and was ended"
        self._timer = self._clock.callLater(deadline, self._terminate, why)
        child.exited.addCallback(self._exited)
        status = await self._over
        await self._clear(child)
        return Ending(self._problem(status), self._output.close(), self._why is not None)

    def _took(self, data: bytes) -> None:
        self._output.take(data)
        if self._output.size > MOST_OUTPUT and self._why is None and self._child is not None:
            self._child.deafen()
            self._terminate(f"said more than {MOST_OUTPUT >> 20} MiB and was ended")

    def _terminate(self, why: str) -> None:
        self._why = why
        self._wait(TERM_PATIENCE, self._kill)
        self._signal(SIGTERM)

    def _kill(self) -> None:
        self._wait(KILL_PATIENCE, self._giveUp)
        self._signal(SIGKILL)

    def _giveUp(self) -> None:
        self._why = f"{self._why}, in vain: it still runs"
        self._over.callback(None)

    def _signal(self, number: int) -> None:
        if self._child is not None:
            self._child.signal(number)

    def _wait(self, seconds: float, then: Callable[[], None]) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = self._clock.callLater(seconds, then)

    def _exited(self, status: int) -> None:
        if not self._over.called:
            self._over.callback(status)

    async def _clear(self, child: Child) -> None:
        """
        Let nothing of its group live on, nor keep its output.
        """
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        # Who is about to become a daemon has the time to leave the group.
        for number in (_NO_SIGNAL, SIGTERM, SIGKILL):
            if not child.signal(number):
                break
            if number != SIGKILL:
                await deferLater(self._clock, LEFTOVERS_PATIENCE)
        if not child.silent.called:
            # As a rule, the end of its output is the next thing that is read.
            hearing = self._clock.callLater(LEFTOVERS_PATIENCE, child.deafen)
            await child.silent
            if hearing.active():
                hearing.cancel()

    def _problem(self, status: int | None) -> str | None:
        if self._why is not None:
            return self._why
        if status is None or status == 0:
            return None
        if status > 0:
            return f"ended with status {status}"
        return f"was ended by signal {-status} ({strsignal(-status)})"
