"""
A long-running program of punchd on a host of a NAT lab: started, awaited, killed, started again.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sysconfig
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

from punchd.testing.natlab import Host

# Starting takes most of a second of one processor, several times as long on a busy machine.
_START_PATIENCE = 30.0
_PAUSE = 0.05

# What is shown of a log when something went wrong.
_LINES = 40


class DeploymentError(Exception):
    """
    A process did not do what it was started for; the text has the end of its log.
    """


def program(name: str) -> Path:
    """
    A program of the Python environment that this runs in.
    """
    return Path(sysconfig.get_path("scripts")) / name


def ask(state: Path, command: str, **arguments: str) -> dict[str, Any] | None:
    """
    Ask the peer that runs with a state folder, through its control socket.

    @return: its answer; C{None} when there is none.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(state / "control"))
            connection.sendall(json.dumps({"command": command, **arguments}).encode() + b"\n")
            with connection.makefile("rb") as lines:
                answer: dict[str, Any] = json.loads(lines.readline())
        except (OSError, ValueError):
            return None
    return answer


def isConnected(status: dict[str, Any] | None) -> bool:
    """
    Whether a peer of that status is ready for introductions.
    """
    return status is not None and status["master"] == "connected"


class Daemon(ABC):
    """
    One program under C{twistd}. It may be ended and started again; its state stays.

    @ivar state: its state folder.
    @ivar log: the file with what it prints, over all its lives.
    """

    def __init__(self, host: Host, name: str, folder: Path) -> None:
        """
        @param folder: where its state folder and its log are to be.
        """
        self.host = host
        self.name = name
        self.state = folder / name
        self.log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._bornAt = 0

    @abstractmethod
    def arguments(self) -> list[str]:
        """
        The subcommand of C{twistd}, and its options but for C{--state}.
        """

    @abstractmethod
    def isReady(self) -> bool:
        """
        Whether it does what it was started for.
        """

    def start(self) -> None:
        """
        Start the process; L{awaitReady} waits until it is of use.
        """
        if self.isRunning:
            raise ValueError(f"{self.name} is running")
        self._bornAt = self.logged
        with self.log.open("ab") as log:
            self._process = self.host.popen(
                [program("twistd"), "-n", "--pidfile=", *self.arguments(), "--state", self.state],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def isRunning(self) -> bool:
        """
        Whether there is a process.
        """
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """
        The number of the process.
        """
        if self._process is None:
            raise ValueError(f"{self.name} has not been started")
        return self._process.pid

    def awaitReady(self, timeout: float = _START_PATIENCE) -> float:
        """
        Wait until the process is ready.

        @return: the seconds that it took.
        @raise DeploymentError: when it ends, or takes too long.
        """
        return self.waitFor(self.isReady, "ready", timeout)

    def waitFor(self, isSo: Callable[[], bool], what: str, timeout: float) -> float:
        """
        Wait until something is so.

        @param what: what it says of the process, for the error.
        @return: the seconds that it took.
        @raise DeploymentError: when the process ends, or it takes too long.
        """
        began = time.monotonic()
        while not isSo():
            if not self.isRunning:
                raise self.error("has ended")
            if time.monotonic() - began > timeout:
                raise self.error(f"is not {what} after {timeout:.0f} s")
            time.sleep(_PAUSE)
        return time.monotonic() - began

    def stop(self, timeout: float = 10.0) -> int:
        """
        Ask the process to end, as a service manager does.

        @return: its exit status.
        @raise DeploymentError: when it does not end.
        """
        if self._process is None:
            raise ValueError(f"{self.name} has not been started")
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise self.error(f"does not end within {timeout:.0f} s") from None

    def kill(self) -> None:
        """
        End the process at once, without a chance to say goodbye; harmless when there is none.
        """
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def logged(self) -> int:
        """
        How many bytes it has printed.
        """
        return self.log.stat().st_size if self.log.exists() else 0

    def said(self, since: int | None = None) -> str:
        """
        The last lines that it has printed.

        @param since: leaves out this many bytes at the log's beginning; by default, what is from
            before the latest start.
        """
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(self._bornAt if since is None else since)
            lines = log.read().decode("utf-8", "replace").splitlines()
        return "\n".join(lines[-_LINES:])

    def error(self, what: str) -> DeploymentError:
        """
        That something is wrong with this process, with the end of its log.
        """
        return DeploymentError(f"{self.name} {what}; its log ends with\n{self.said()}")

    def facts(self, text: str, what: str) -> dict[str, Any]:
        """
        The JSON that a command for this process has printed.

        @raise DeploymentError: when it is none.
        """
        try:
            facts: dict[str, Any] = json.loads(text)
        except ValueError:
            raise self.error(f"gave no facts ({what})") from None
        return facts
