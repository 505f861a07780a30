"""
Telling a command what has changed: one run at a time, the latest facts, until it has understood.

For each subject there is at most one set of facts that the command is still to be told: the latest.
What has been told with success is not told again, so a peer that comes back soon, and as it was,
costs no run. Who changes fast waits between runs; the others go before him.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from shutil import which
from typing import Any

from attrs import define
from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from punchd.hooks.child import Process, Spawn
from punchd.hooks.command import Command
from punchd.hooks.facts import Facts, variablesFor
from punchd.hooks.memory import Memory
from punchd.hooks.reporting import Reports
from punchd.hooks.run import Ending, Run
from punchd.identity.folder import StateFolder

_log = Logger()

#: Seconds for which what changes at the same time is gathered; and for which what is only missing
#: may come back: who has connected anew is looked for at his ports again.
GATHERING = 0.2
MISSING = 5.0

#: Seconds from the beginning of one run to the next one about the same subject; and from the end of
#: one to the next one at all: what strangers do must not keep the machine busy.
PACE = 2.0
REST = 0.05

#: Seconds for which somebody who is gone may come back as if nothing had been: a connection that is
#: made anew. After a start, it takes longer until all are there that will come.
LEAVING = 10.0
RETURNING = 60.0

#: Seconds until a run that has failed is repeated: at first, and at most.
FIRST_RETRY = 1.0
LAST_RETRY = 60.0

#: Seconds that a running command has left when the program ends.
STOPPING = 3.0

#: Subjects that are gone and of which the command does not know it yet, at most; of more, the
#: oldest are forgotten.
MOST_GONE = 10_000

#: What systemd tells the program, not the command (sd_notify(3), sd_listen_fds(3)).
_NOT_FOR_COMMANDS = {
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
}


@define(eq=False)
class _Told:
    """
    How far the command is with one subject.

    @ivar latest: the facts.
    @ivar told: those of the latest run that has succeeded.
    @ivar isUncertain: whether it may have done something else since; then it is told again.
    @ivar isRemembered: whether it was told of by an earlier process, and not yet by this one.
    @ivar failures: runs that have failed since then.
    @ivar notBefore: when the next run may begin at the earliest.
    @ivar leavesAt: when a subject that is not there is taken for gone.
    @ivar timer: runs until it is to be told.
    """

    latest: Facts
    told: Facts | None = None
    isUncertain: bool = False
    isRemembered: bool = False
    failures: int = 0
    notBefore: float = 0.0
    leavesAt: float = 0.0
    timer: IDelayedCall | None = None

    @property
    def isSettled(self) -> bool:
        """
        Whether there is nothing to be told.
        """
        if self.isUncertain:
            return False
        return self.latest == self.told or (self.told is None and not self.latest.isThere)

    @property
    def isUrgent(self) -> bool:
        """
        Whether what was told is wrong, and not just more than there is at the moment.
        """
        if self.isRemembered:
            return False
        return self.isUncertain or self.told is None or not self.latest.isPartOf(self.told)


class Teller(Service):
    """
    Made by a server or a peer with C{--on-change}, which starts it first and stops it first.
    """

    def __init__(
        self,
        *,
        clock: IReactorTime,
        command: Command,
        spawn: Spawn,
        memory: Memory,
        environment: Mapping[str, str],
    ) -> None:
        """
        @param environment: what the command's consists of, beside the facts.
        """
        self._clock = clock
        self._command = command
        self._spawn = spawn
        self._memory = memory
        self._environment = {
            name: value
            for name, value in environment.items()
            if not name.startswith("PUNCHD_") and name not in _NOT_FOR_COMMANDS
        }
        self._reports = Reports()
        self._subjects: dict[str, _Told] = {}
        # In the order in which they are to be told: those for whom it is the first try, and others.
        self._fresh: dict[str, _Told] = {}
        self._again: dict[str, _Told] = {}
        # In the order in which they have gone.
        self._gone: dict[str, None] = {}
        self._current: _Told | None = None
        self._run: Run | None = None
        self._rest: IDelayedCall | None = None
        self._idle: Deferred[None] | None = None

    def startService(self) -> None:
        super().startService()
        program = self._command.words[0]
        if which(program, path=self._environment.get("PATH")) is None:
            if "/" in program and os.path.exists(program):
                _log.warn("--on-change: {program} is not executable yet", program=program)
            else:
                _log.warn("--on-change: there is no program {program} yet", program=program)
        for facts in self._memory.load():
            subject = _Told(facts, isUncertain=True, isRemembered=True)
            subject.leavesAt = self._clock.seconds() + RETURNING
            self._subjects[facts.key] = subject
            self._gone[facts.key] = None
            self._plan(subject)

    def tell(self, facts: Facts) -> None:
        """
        This is how it is now with one subject.
        """
        if not self.running:
            return
        subject = self._subjects.get(facts.key)
        if subject is None:
            if not facts.isThere:
                return
            subject = self._subjects[facts.key] = _Told(facts)
            isSteady = False
        elif subject.latest == facts or _isAnothers(facts, subject.latest):
            return
        else:
            isSteady = subject.latest.isThere and facts.isThere
            subject.latest = facts
        if facts.isThere:
            self._gone.pop(facts.key, None)
            subject.leavesAt = 0.0
        elif facts.key not in self._gone:
            self._gone[facts.key] = None
            subject.leavesAt = self._clock.seconds() + LEAVING
            self._forgetOldest()
        if subject is not self._current:
            self._plan(subject, isSteady)

    def stopService(self) -> Deferred[None]:
        """
        @return: fires when no command runs any more. What it was not told is told after the next
            start.
        """
        super().stopService()
        for subject in self._subjects.values():
            self._unplan(subject)
        rest, self._rest = self._rest, None
        if rest is not None:
            rest.cancel()
        if self._run is None:
            return succeed(None)
        self._run.end("was ended, as the program ends", within=STOPPING)
        self._idle = Deferred()
        return self._idle

    def _plan(self, subject: _Told, isSteady: bool = False) -> None:
        """
        See to it that the command is told, if there is anything.

        @param isSteady: whether it does not begin to wait anew, if it waits already.
        """
        if subject.isSettled:
            self._unplan(subject)
            if not subject.latest.isThere:
                self._forget(subject)
            return
        now = self._clock.seconds()
        soon = now + (GATHERING if subject.isUrgent else MISSING)
        due = max(subject.notBefore, subject.leavesAt or soon)
        if not isSteady or not self._isPlanned(subject, due):
            self._unplan(subject)
            subject.timer = self._clock.callLater(max(0.0, due - now), self._due, subject)

    def _isPlanned(self, subject: _Told, due: float) -> bool:
        """
        Whether it is to be told by then.
        """
        key = subject.latest.key
        if key in self._fresh or key in self._again:
            return True
        return subject.timer is not None and subject.timer.getTime() <= due

    def _unplan(self, subject: _Told) -> None:
        key = subject.latest.key
        timer, subject.timer = subject.timer, None
        if timer is not None:
            timer.cancel()
        self._fresh.pop(key, None)
        self._again.pop(key, None)

    def _forget(self, subject: _Told) -> None:
        key = subject.latest.key
        self._unplan(subject)
        del self._subjects[key]
        self._gone.pop(key, None)
        self._reports.forget(key)

    def _forgetOldest(self) -> None:
        if len(self._gone) <= MOST_GONE:
            return
        for key in self._gone:
            if self._subjects[key] is not self._current:
                _log.warn(
                    "--on-change: too many are gone; the command is never told that {subject} is",
                    subject=self._subjects[key].latest,
                )
                self._forget(self._subjects[key])
                self._memory.forget(key)
                return

    def _due(self, subject: _Told) -> None:
        subject.timer = None
        waiting = self._again if subject.failures else self._fresh
        waiting[subject.latest.key] = subject
        self._next()

    def _next(self) -> None:
        waiting = self._fresh or self._again
        if self._current is not None or self._rest is not None or not waiting:
            return
        self._current = subject = waiting.pop(next(iter(waiting)))
        facts, subject.isUncertain, subject.isRemembered = subject.latest, True, False
        subject.notBefore = self._clock.seconds() + PACE
        if facts.isThere and facts.canLeave:
            self._memory.keep(facts)
        self._run = Run(self._clock, self._spawn, self._command)
        running = self._run.start({**self._environment, **variablesFor(facts, subject.told)})
        running.addErrback(_bug)
        running.addCallback(self._ran, subject, facts)

    def _ran(self, ending: Ending, subject: _Told, facts: Facts) -> None:
        self._current = self._run = None
        if ending.problem is None:
            subject.told, subject.isUncertain, subject.failures = facts, False, 0
            self._reports.succeeded(facts.key, str(facts), ending.output)
            if not facts.isThere:
                subject.told = None
                self._memory.forget(facts.key)
        else:
            wait = min(FIRST_RETRY * 2.0 ** min(subject.failures, 10), LAST_RETRY)
            subject.failures += 1
            subject.notBefore = self._clock.seconds() + wait
            self._reports.failed(facts.key, str(facts), ending)
        idle, self._idle = self._idle, None
        if idle is not None:
            idle.callback(None)
        elif self.running:
            self._plan(subject)
            self._rest = self._clock.callLater(REST, self._rested)

    def _rested(self) -> None:
        self._rest = None
        self._next()


def makeTeller(reactor: Any, command: Command, folder: StateFolder) -> Teller:
    """
    A teller with real processes.

    @param folder: the state folder.
    @raise ConfigurationError: when it cannot be used.
    """
    return Teller(
        clock=reactor,
        command=command,
        spawn=partial(Process, reactor),
        memory=Memory.inFolder(folder),
        environment=os.environ,
    )


def _isAnothers(facts: Facts, latest: Facts) -> bool:
    """
    Whether C{facts} say that somebody has gone whose name has got another owner.
    """
    return not facts.isThere and latest.isThere and facts.peerID != latest.peerID


def _bug(failure: Failure) -> Ending:
    _log.failure("bug in running the --on-change command", failure)
    return Ending("could not be run: a bug, see above")
