"""
Tests for L{punchd.cli.showing}.
"""

import json
from typing import Any

import pytest

from punchd.cli.showing import showFacts, showPing, showStatus

STATUS: dict[str, Any] = {
    "ok": True,
    "name": "alice",
    "id": "0a" * 32,
    "master": "connected",
    "servers": [
        {
            "server": "a.example:7761",
            "connected": True,
            "problem": None,
            "observed": "198.51.100.1:4000",
            "mapping": "EIM",
            "rtt": 0.0123,
        },
        {
            "server": "b.example:7761",
            "connected": False,
            "problem": "refused",
            "observed": None,
            "mapping": None,
            "rtt": None,
        },
    ],
    "exposes": ["web"],
    "forwards": [{"listen": "2222", "peer": "bob", "service": "ssh"}],
    "links": {
        "bob": {
            "path": "direct",
            "strategy": "lan",
            "reason": None,
            "rtt": 0.001,
            "streams": 2,
            "bytesIn": 10,
            "bytesOut": 20,
        },
        "carol": {"path": None, "strategy": None, "reason": "no direct path to carol"},
    },
}

Captured = pytest.CaptureFixture[str]


def test_factsAreJSON(capsys: Captured) -> None:
    showFacts({"a": [1, None]})
    assert json.loads(capsys.readouterr().out) == {"a": [1, None]}


def test_statusTellsEverythingInLines(capsys: Captured) -> None:
    showStatus(STATUS, False)
    assert capsys.readouterr().out.splitlines() == [
        f"alice  {'0a' * 32}  master: connected",
        "server a.example:7761: connected, sees us as 198.51.100.1:4000, mapping EIM, round trip "
        "12.3 ms",
        "server b.example:7761: not connected: refused",
        "exposes web",
        "forwards 2222 to bob/ssh",
        "link bob: direct by lan, round trip 1.0 ms, 2 streams, 10 bytes in, 20 out",
        "link carol: no direct path to carol",
    ]


def test_statusAsJSONIsTheAnswerWithoutItsOk(capsys: Captured) -> None:
    showStatus(STATUS, True)
    facts = json.loads(capsys.readouterr().out)
    assert facts == {key: value for key, value in STATUS.items() if key != "ok"}


PONG = {"ok": True, "peer": "bob", "path": "direct", "strategy": "lan", "rtt": 0.0015}


def test_aPingIsOneLine(capsys: Captured) -> None:
    showPing("bob", PONG, False)
    assert capsys.readouterr().out == "bob: direct by lan, round trip 1.5 ms\n"


def test_aPingAsJSONIsItsFacts(capsys: Captured) -> None:
    showPing("bob", PONG, True)
    facts = json.loads(capsys.readouterr().out)
    assert facts == {key: value for key, value in PONG.items() if key != "ok"}


def test_aPingThatFailedSaysWhyOnStandardError(capsys: Captured) -> None:
    showPing("bob", {}, False, "not connected to any server")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "punchd: not connected to any server\n")


def test_aPingThatFailedStillHasFacts(capsys: Captured) -> None:
    showPing("bob", {}, True, "not connected to any server")
    facts = json.loads(capsys.readouterr().out)
    assert facts == {"peer": "bob", "path": None, "reason": "not connected to any server"}
