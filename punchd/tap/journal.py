"""
A log for systemd's journal, which has the time of each line already, and wants to know how
important it is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import IO

from attrs import frozen
from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText
from zope.interface import implementer

#: sd-daemon(3): the levels of syslog, which stand before each line.
INFO = 6
ERROR = 3
_PRIORITIES = {
    LogLevel.debug: 7,
    LogLevel.info: INFO,
    LogLevel.warn: 4,
    LogLevel.error: ERROR,
    LogLevel.critical: 2,
}


def leadsToJournal(stream: IO[str], environ: Mapping[str, str]) -> bool:
    """
    Whether C{stream} is connected to the journal, as C{JOURNAL_STREAM} says (systemd.exec(5)). It
    may have been led elsewhere since the variable was set.
    """
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def prefixed(priority: int, text: str) -> str:
    """
    The lines of C{text}, each with C{priority} before it.
    """
    return "".join(f"<{priority}>{line}\n" for line in text.splitlines())


@implementer(ILogObserver)
@frozen
class JournalObserver:
    """
    Writes each event to the journal.
    """

    _stream: IO[str]

    def __call__(self, event: LogEvent) -> None:
        priority = _PRIORITIES.get(event.get("log_level", LogLevel.info), INFO)
        text = eventAsText(event, includeTimestamp=False, includeSystem=False)
        # journald may be away; there is nobody who could be told.
        with suppress(OSError):
            self._stream.write(prefixed(priority, text))
            self._stream.flush()
