"""
Tests for L{punchd.tap.journal}: what is written, and when.
"""

import io
import os
from pathlib import Path

import pytest
from twisted.logger import ILogObserver, Logger, LogLevel
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from punchd.tap.journal import JournalObserver, leadsToJournal, prefixed


def streamOf(path: Path) -> str:
    status = path.stat()
    return f"{status.st_dev}:{status.st_ino}"


def test_aStreamLeadsToTheJournalIfItIsThatOne(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    other.touch()
    with one.open("w") as stream:
        assert leadsToJournal(stream, {"JOURNAL_STREAM": streamOf(one)})
        assert not leadsToJournal(stream, {"JOURNAL_STREAM": streamOf(other)})
        assert not leadsToJournal(stream, {"JOURNAL_STREAM": "nonsense"})
        assert not leadsToJournal(stream, {})
    assert not leadsToJournal(stream, {"JOURNAL_STREAM": streamOf(one)})


def test_whatIsNoFileDoesNotLeadThere() -> None:
    assert not leadsToJournal(io.StringIO(), {"JOURNAL_STREAM": "1:2"})


@pytest.mark.parametrize(
    ("level", "priority"),
    [
        (LogLevel.debug, 7),
        (LogLevel.info, 6),
        (LogLevel.warn, 4),
        (LogLevel.error, 3),
        (LogLevel.critical, 2),
    ],
)
def test_aLineHasItsPriorityAndNoTime(level: object, priority: int) -> None:
    stream = io.StringIO()
    observer = JournalObserver(stream)
    assert verifyObject(ILogObserver, observer)
    Logger(observer=observer).emit(level, "{who} is here", who="bob")  # type: ignore[arg-type]
    assert stream.getvalue() == f"<{priority}>bob is here\n"


def test_eachLineOfATracebackHasIt() -> None:
    stream = io.StringIO()
    try:
        raise ValueError("no")
    except ValueError:
        Logger(observer=JournalObserver(stream)).failure("while doing it", Failure())
    lines = stream.getvalue().splitlines()
    assert lines[0] == "<2>while doing it"
    assert lines[-1] == "<2>builtins.ValueError: no"
    assert all(line.startswith("<2>") for line in lines)


def test_nobodyWritesALineOfAnotherPriority() -> None:
    """
    A name or an error from elsewhere may have anything in it.
    """
    assert prefixed(6, "bob\n<0>fire\r<1>flood\n") == "<6>bob\n<6><0>fire\n<6><1>flood\n"


def test_aJournalThatIsAwayKeepsNobodyFromWorking() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        Logger(observer=JournalObserver(stream)).info("hello")
        Logger(observer=JournalObserver(stream)).info("hello again")
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
