"""
Real processes, as the functional tests start them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

import punchd
from punchd.values.joining import JoinAddress

#: Seconds within which a process must do what a test waits for; many times what it takes.
PATIENCE = 30.0

LOOPBACK = "tcp:0:interface=127.0.0.1"

_ROOT = Path(punchd.__file__).parent.parent


class Running(ProcessProtocol):
    """
    A process that runs, or has run.

    @ivar status: its exit status, or minus the signal that ended it.
    """

    def __init__(
        self,
        *command: str,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        files: Mapping[int, int] | None = None,
    ) -> None:
        """
        @param environment: more than there is.
        @param files: descriptors of ours, by their number in the process; more than the usual ones.
        """
        from twisted.internet import reactor

        self.out = ""
        self.err = ""
        self.status: int | None = None
        self._waiting: list[tuple[str, Deferred[None]]] = []
        self._ending: list[Deferred[int]] = []
        path = os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")])
        # Output that is asked for is there when it is printed.
        known = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **(environment or {})}
        self._process: Any = reactor.spawnProcess(
            self,
            command[0],
            command,
            known,
            str(cwd) if cwd else None,
            childFDs={0: "w", 1: "r", 2: "r", **(files or {})},
        )

    def outReceived(self, data: bytes) -> None:
        self.out += data.decode()
        for text, waiting in list(self._waiting):
            if text in self.out:
                self._waiting.remove((text, waiting))
                waiting.callback(None)

    def errReceived(self, data: bytes) -> None:
        self.err += data.decode()

    def processEnded(self, reason: Failure) -> None:
        if reason.check(ProcessDone):
            self.status = 0
        else:
            ended: Any = reason.value
            self.status = ended.exitCode if ended.signal is None else -ended.signal
        for one in self._ending:
            one.callback(self.status)
        for text, waiting in self._waiting:
            waiting.errback(
                AssertionError(f"it ended before it said {text!r}:\n{self.out}\n{self.err}")
            )

    def said(self, text: str) -> Deferred[None]:
        """
        @return: fires when C{text} is in the output.
        """
        from twisted.internet import reactor

        if text in self.out:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting.append((text, waiting))
        return waiting.addTimeout(PATIENCE, reactor)

    def ended(self) -> Deferred[int]:
        """
        @return: fires with the exit status.
        """
        from twisted.internet import reactor

        if self.status is not None:
            return succeed(self.status)
        ending: Deferred[int] = Deferred()
        self._ending.append(ending)
        return ending.addTimeout(PATIENCE, reactor)

    def signal(self, name: str) -> None:
        """
        Send the signal, if the process is still there.
        """
        try:
            self._process.signalProcess(name)
        except ProcessExitedAlready:
            return

    async def stop(self, signal: str = "TERM") -> int:
        """
        End it, and return its exit status.
        """
        self.signal(signal)
        return await self.ended()


def runTwistd(
    *arguments: str, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> Running:
    """
    Run C{twistd} with these arguments.
    """
    return Running(*twistd(), *arguments, cwd=cwd, environment=environment)


def twistd() -> tuple[str, str]:
    """
    The command C{twistd}.
    """
    return sys.executable, str(Path(sys.executable).with_name("twistd"))


@define
class Server:
    """
    C{punchd-server} as a process, on free ports of the loopback interface.
    """

    state: Path
    options: tuple[str, ...] = ()
    running: list[Running] = field(factory=list)
    environment: dict[str, str] = field(factory=dict)

    async def start(self) -> JoinAddress:
        """
        Run it until it listens.
        """
        process = runTwistd(
            "-n",
            "--pidfile=",
            "punchd-server",
            f"--state={self.state}",
            "--host=127.0.0.1",
            f"--master={LOOPBACK}",
            f"--assist={LOOPBACK}",
            f"--relay={LOOPBACK}",
            *self.options,
            environment=self.environment,
        )
        self.running.append(process)
        await process.said("starting up")
        return JoinAddress.parse((self.state / "join").read_text())

    @property
    def process(self) -> Running:
        return self.running[-1]

    @property
    def log(self) -> str:
        """
        What all its processes have said.
        """
        return "".join(one.out + one.err for one in self.running)

    async def stop(self, signal: str = "TERM") -> int:
        return await self.process.stop(signal)


def sleep(seconds: float) -> Deferred[None]:
    from twisted.internet import reactor

    return deferLater(reactor, seconds, lambda: None)
