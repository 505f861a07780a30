"""
Who has started the process and watches over it, if it wants to be told how it goes: systemd, or
whatever else speaks sd_notify(3).
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import MutableMapping

from attrs import define, field
from twisted.logger import Logger

_log = Logger()

# Bytes of one message, a bound of systemd's own being 4096.
_MOST_TEXT = 2048

_MICROSECONDS = 1_000_000


def _microseconds(seconds: float) -> str:
    return f"{seconds * _MICROSECONDS:.0f}"


@define(eq=False)
class Supervisor:
    """
    Made with the service that C{twistd} runs. What cannot be told is told again when there is news;
    nothing of it keeps the service from running.

    @ivar address: where to tell; empty if nobody wants to know.
    @ivar watchdog: seconds within which a sign of life must come, or C{None}.
    """

    address: str = ""
    watchdog: float | None = None
    _status: str = field(default="", init=False)
    _isBroken: bool = field(default=False, init=False)

    @classmethod
    def fromEnvironment(cls, environ: MutableMapping[str, str], pid: int) -> Supervisor:
        """
        The one that C{environ} names. Its variables are taken out, as they are not for the
        processes that this one starts.

        @param pid: this process.
        """
        address = environ.pop("NOTIFY_SOCKET", "")
        period = environ.pop("WATCHDOG_USEC", "")
        whose = environ.pop("WATCHDOG_PID", "")
        if address[:1] not in ("/", "@"):
            # There are supervisors elsewhere than on this machine, of which we know nothing.
            address = ""
        watchdog = None
        if re.fullmatch(r"[0-9]{1,18}", period) is not None and whose in ("", str(pid)):
            watchdog = int(period) / _MICROSECONDS or None
        return cls(address, watchdog if address else None)

    def __bool__(self) -> bool:
        """
        Whether anybody wants to know.
        """
        return bool(self.address)

    def isReady(self) -> bool:
        """
        The service does what it was started for.

        @return: whether that has been told.
        """
        return self._tell("READY=1")

    def lives(self) -> None:
        """
        A sign of life.
        """
        if self.watchdog is not None:
            self._tell("WATCHDOG=1")

    def status(self, line: str) -> None:
        """
        How it goes, for a person; told when it is news.
        """
        line = " ".join(line.split())
        line = line.encode("utf-8")[:_MOST_TEXT].decode("utf-8", "ignore")
        if line != self._status and self._tell(f"STATUS={line}"):
            self._status = line

    def stops(self, within: float) -> None:
        """
        The service ends.

        @param within: seconds that it may take.
        """
        self._tell(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={_microseconds(within)}")

    def _tell(self, message: str) -> bool:
        if not self.address:
            return False
        # The name of an abstract socket begins with a zero byte.
        where = os.fsencode(self.address)
        if where.startswith(b"@"):
            where = b"\0" + where[1:]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                # A supervisor that does not read must not stop the reactor.
                sender.setblocking(False)
                sender.sendto(message.encode("utf-8"), where)
        except OSError as error:
            if not self._isBroken:
                self._isBroken = True
                _log.warn("cannot tell {to} how it goes: {error}", to=self.address, error=error)
            return False
        self._isBroken = False
        return True
