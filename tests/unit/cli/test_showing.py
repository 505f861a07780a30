"""
Tests for L{punchd.cli.showing}.
"""

import json
from typing import Any

import pytest
from attrs import evolve

from punchd.cli.showing import showFacts, showNat, showPing, showStatus
from punchd.nat.report import NatReport
from punchd.values.nat import Mapping

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
            "dns": "alice.peers.a.example",
            "mapping": "EIM",
            "rtt": 0.0123,
        },
        {
            "server": "b.example:7761",
            "connected": False,
            "problem": "refused",
            "observed": None,
            "dns": None,
            "mapping": None,
            "rtt": None,
        },
    ],
    "exposes": ["web"],
    "published": {
        "web": {"address": "198.51.100.1:80", "by": "upnp", "problem": None},
        "db": {"address": "198.51.100.1:81", "by": "pcp", "problem": "another port"},
        "ssh": {"address": None, "by": None, "problem": "the router lends no ports"},
    },
    "forwards": [
        {"listen": "2222", "peer": "bob", "service": "ssh"},
        {"listen": "socks:1080", "peer": None, "service": None},
    ],
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
        "is alice.peers.a.example in the DNS",
        "server b.example:7761: not connected: refused",
        "exposes web",
        "publishes web at 198.51.100.1:80 (upnp)",
        "publishes db at 198.51.100.1:81 (another port)",
        "does not publish ssh: the router lends no ports",
        "forwards 2222 to bob/ssh",
        "forwards socks:1080 to any SERVICE.PEER",
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


NAT: dict[str, Any] = {"ok": True, "server": "a.example:7761", "problem": None} | evolve(
    NatReport(
        address="198.51.100.1",
        translated=True,
        mapping=Mapping.ENDPOINT_INDEPENDENT,
        hairpin=False,
        routers=("192.168.1.1", "100.64.0.1"),
        doubleNat=True,
    ),
    unclear=("whether it rains",),
    contradictions=("it is wet and dry",),
).toJSON()


def test_aNatIsOneLineAndThenAllOfIt(capsys: Captured) -> None:
    showNat(NAT, False)
    line, *full = capsys.readouterr().out.splitlines()
    assert line == NAT["line"]
    assert "  mapping:                  EIM" in full
    assert "  filtering:                not known" in full
    assert "  reaches itself (hairpin): no" in full
    assert "  second NAT behind it:     yes" in full
    assert "  routers on the way:       192.168.1.1, 100.64.0.1" in full
    assert full[-3:] == [
        "  not clear: whether it rains",
        "  contradiction: it is wet and dry",
        "  not complete yet: ask again in some seconds",
    ]


def test_aNatThatCouldNotBeLookedAtAgainSaysWhy(capsys: Captured) -> None:
    showNat(NAT | {"problem": "no tokens"}, False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == NAT["line"]
    assert "  problem: looking again has failed: no tokens" in lines


def test_aNatAsJSONIsTheAnswerWithoutItsOk(capsys: Captured) -> None:
    showNat(NAT, True)
    assert json.loads(capsys.readouterr().out) == {k: v for k, v in NAT.items() if k != "ok"}
