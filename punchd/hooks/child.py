"""
A process in a group of its own, whose output comes to us.

C{IReactorProcess} starts processes in our own group, where nobody can end one with all that it has
started; and tells of a program that is not there only by a traceback among its output.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from subprocess import DEVNULL, PIPE, STDOUT, Popen
from typing import Any
from typing import Protocol as Typing

from twisted.internet import fdesc
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred
from twisted.internet.process import registerReapProcessHandler, unregisterReapProcessHandler
from twisted.python.failure import Failure


class Child(Typing):
    """
    A process that was started.

    @ivar exited: fires with its exit status, or minus the signal that has ended it.
    @ivar silent: fires when nobody has its output any more, or L{deafen} was called.
    """

    exited: Deferred[int]
    silent: Deferred[None]

    def signal(self, number: int) -> bool:
        """
        Send a signal to all of its group, also when the process itself is over.

        @return: whether there is anybody left in it.
        """

    def deafen(self) -> None:
        """
        Hear no more of its output; who goes on writing gets SIGPIPE.
        """


#: Starts a process, from its words and its environment; the last one is called with each piece of
#: its output. Raises OSError when it cannot be started.
Spawn = Callable[[Sequence[str], Mapping[str, str], Callable[[bytes], None]], Child]


class Process(FileDescriptor):
    """
    A L{Child}, made by starting it. The reactor tells when it is over, as of all processes.
    """

    def __init__(
        self,
        reactor: Any,
        words: Sequence[str],
        environment: Mapping[str, str],
        said: Callable[[bytes], None],
    ) -> None:
        """
        @raise OSError: when it cannot be started.
        """
        super().__init__(reactor)
        self.exited: Deferred[int] = Deferred()
        self.silent: Deferred[None] = Deferred()
        self._said = said
        self._popen = Popen(
            words,
            bufsize=0,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            env=environment,
            process_group=0,
        )
        assert self._popen.stdout is not None
        self._pipe = self._popen.stdout
        fdesc.setNonBlocking(self._pipe.fileno())
        self.connected = 1
        self.startReading()
        registerReapProcessHandler(self._popen.pid, self)

    def fileno(self) -> int:
        return -1 if self._pipe.closed else self._pipe.fileno()

    def doRead(self) -> Any:
        return fdesc.readFromFD(self.fileno(), self._said)

    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)
        self._pipe.close()
        self.silent.callback(None)

    def deafen(self) -> None:
        if self.connected:
            self.stopReading()
            self.connectionLost(Failure(ConnectionAbortedError()))

    def signal(self, number: int) -> bool:
        try:
            os.killpg(self._popen.pid, number)
        except ProcessLookupError:
            return False
        except PermissionError:
            # Somebody is there, but as another user.
            return True
        return True

    def reapProcess(self) -> None:
        """
        Some process of ours is over; perhaps this one.
        """
        status = self._popen.poll()
        if status is not None:
            unregisterReapProcessHandler(self._popen.pid, self)
            self.exited.callback(status)

    def processEnded(self, status: int) -> None:
        """
        It was over before the reactor had heard of it.

        @param status: as of C{waitpid}.
        """
        self._popen.returncode = os.waitstatus_to_exitcode(status)
        self.exited.callback(self._popen.returncode)
