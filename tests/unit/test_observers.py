"""
Tests for L{punchd.observers}.
"""

from typing import Any

import pytest
from twisted.logger import formatEvent, globalLogPublisher
from zope.interface.verify import verifyObject

from punchd.interfaces import IObserver
from punchd.observers import LoggingObserver
from punchd.values.happenings import Happening
from tests.unit.server.pretending import Journal


def test_itIsAnObserver() -> None:
    verifyObject(IObserver, LoggingObserver())


@pytest.mark.parametrize(
    ("session", "line"),
    [
        ("", "server: alice {is} here"),
        ("0123456789abcdef", "server: introduction 01234567: alice {is} here"),
    ],
)
def test_aHappeningIsOneLine(session: str, line: str) -> None:
    journal: Any = Journal()
    globalLogPublisher.addObserver(journal)
    try:
        LoggingObserver().happened(Happening("server", session, "alice {is} here", 1.0))
    finally:
        globalLogPublisher.removeObserver(journal)
    assert [formatEvent(event) for event in journal.events] == [line]
