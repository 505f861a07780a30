"""
Tests for L{punchd.cli.watching}.
"""

import json
import sys
from typing import Any

import pytest

from punchd.cli.control import Failed
from punchd.cli.showing import statusLines
from punchd.cli.watching import EVERY, watchStatus
from tests.unit.cli.test_showing import STATUS

Captured = pytest.CaptureFixture[str]

GONE = Failed("no punchd-peer is running")
OTHER = STATUS | {"name": "bob"}


def watch(*found: dict[str, Any] | Failed, asJSON: bool = False) -> list[float]:
    """
    Watch until nothing more is to be found, then be interrupted.

    @return: how long it slept.
    """
    left, slept = list(found), []

    def look() -> dict[str, Any]:
        one = left.pop(0)
        if isinstance(one, Failed):
            raise one
        return one

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if not left:
            raise KeyboardInterrupt

    assert watchStatus(look, asJSON, sleep) == 0
    return slept


def test_itLooksEverySecond() -> None:
    assert watch(STATUS, STATUS, STATUS) == [EVERY] * 3


def test_withoutATerminalChangesArePrinted(capsys: Captured) -> None:
    watch(STATUS, STATUS, OTHER, OTHER)
    said = capsys.readouterr().out.splitlines()
    assert said == [*statusLines(STATUS), "", *statusLines(OTHER)]


def test_aPeerThatIsGoneIsWaitedFor(capsys: Captured) -> None:
    watch(STATUS, GONE, GONE, STATUS)
    said = capsys.readouterr().out.splitlines()
    waiting = ["punchd: no punchd-peer is running", "waiting for it"]
    assert said == [*statusLines(STATUS), "", *waiting, "", *statusLines(STATUS)]


def test_asJSONEachLineIsAnObject(capsys: Captured) -> None:
    watch(STATUS, GONE, OTHER, asJSON=True)
    one, gone, other = map(json.loads, capsys.readouterr().out.splitlines())
    assert one == {key: value for key, value in STATUS.items() if key != "ok"}
    assert gone == {"error": "no punchd-peer is running"}
    assert other["name"] == "bob"


def test_aPeerThatWasNeverThereIsAFailure() -> None:
    with pytest.raises(Failed):
        watch(GONE)


def test_onATerminalItIsRedrawn(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("LINES", "50")
    watch(STATUS, GONE, OTHER)
    said = capsys.readouterr().out
    # Up by a line, as often as there were lines.
    assert said.count("\x1b[1A") >= len(statusLines(STATUS)) - 1
    assert "waiting for it" in said
    assert "bob  0a" in said.rpartition("\x1b[1A")[2]
