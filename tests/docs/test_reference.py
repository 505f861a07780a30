"""
The reference leaves nothing out.
"""

import json
import re
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import pytest
from twisted.protocols import amp

from punchd.errors import NoPath
from punchd.hooks.facts import Facts, Subject, variablesFor
from punchd.peer import control
from punchd.peer.facts import Facts as LinkFacts
from punchd.plugin import packageOf, strategyMakers
from punchd.testing.natlab.kinds import KINDS
from punchd.testing.natlab.rules import ruleset
from punchd.values.addresses import makeAddress
from punchd.values.outcomes import Outcome, Result, Try, Way
from punchd.values.peers import PeerID
from punchd.values.plans import Plan, PlannedAttempt
from punchd.wire import commands
from punchd.wire.frames import Kind
from tests.natlab.test_pairs import expected, isDirect

DOCS = Path(__file__).parents[2] / "docs"
WIRE = (DOCS / "reference/wire.rst").read_text("utf-8")

COMMANDS: list[Any] = [
    command
    for command in vars(commands).values()
    if isinstance(command, type)
    and issubclass(command, amp.Command)
    and not command.__name__.startswith("_")
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.commandName.decode())
def test_everyArgumentOfACommandIsDescribed(command: Any) -> None:
    name = command.commandName.decode()
    found = re.search(rf"^``{name}``, .*\n((?:   .*\n|\n)+)", WIRE, re.MULTILINE)
    assert found is not None, f"{name} is not described"
    offer = {key for key, _ in (*commands._OFFER, *commands._OFFERS)}
    for keys in (command.arguments, command.response):
        missing = {key for key, _ in keys if f"``{key.decode()}``" not in found[1]}
        if missing & offer:
            assert "offer" in found[1]
        assert missing <= offer, f"{name}: {missing}"


@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.name)
def test_everyKindOfFrameIsDescribed(kind: Kind) -> None:
    assert f"   * - {kind.value}\n     - ``{kind.name}``\n" in WIRE


def test_everyQuestionOfTheControlSocketIsDescribed() -> None:
    text = (DOCS / "reference/control.rst").read_text("utf-8")
    for question, arguments in control._QUESTIONS.items():
        row = re.search(rf"^   \* - ``{question}``\n     -(.*)\n", text, re.MULTILINE)
        assert row is not None, question
        assert set(re.findall(r"``(\w+)``", row[1])) == arguments


def test_everyKeyOfALinkIsDescribed() -> None:
    text = (DOCS / "reference/json.rst").read_text("utf-8")
    tried = Try(Way.DIALLED, makeAddress("192.0.2.1", 1), Result.REFUSED, 0.0)
    known = LinkFacts("bob", PeerID(bytes(32)))
    outcomes = (Outcome("lan", Result.FAILED, 0.0, (tried,)),)
    known.failed(NoPath("bob", outcomes, plan=Plan((PlannedAttempt("lan", 0.0, 1.0),))))
    facts = known.toJSON(None)
    [planned] = facts["plan"]
    [attempt] = facts["attempts"]
    [try_] = attempt["tries"]
    named = set(re.findall(r"``(\w+)``", text))
    assert {*facts, *planned, *attempt, *try_} <= named


def test_everyVariableOfACommandIsDescribed() -> None:
    text = (DOCS / "reference/on-change.rst").read_text("utf-8")
    rows = re.findall(r"^   \* - (``PUNCHD_.*)\n", text, re.MULTILINE)
    described = [name for row in rows for name in re.findall(r"``(\w+)``", row)]
    facts = Facts(Subject.PEER, "bob", PeerID(bytes(32)))
    assert sorted(described) == sorted(variablesFor(facts, None))


def test_everyStrategyOfPunchdIsDescribed() -> None:
    text = (DOCS / "reference/strategies.rst").read_text("utf-8")
    for maker in strategyMakers():
        if packageOf(maker) == "punchd":
            assert f"\n``{maker.name}``\n" in text


def test_theRulesOfTheLabAreThoseThatAreShown() -> None:
    text = (DOCS / "explanation/nat-behaviour.rst").read_text("utf-8")
    [lab] = re.findall(r"^The lab's NATs\n(.*?)^What else", text, re.MULTILINE | re.DOTALL)
    blocks = "\n".join(re.findall(r"::\n\n((?: +.*\n)+)", lab))
    shown = [line.partition("#")[0] for line in blocks.splitlines()]
    shown += re.findall(r"``((?:snat|jhash|reject) [^`]+)``", lab.replace("\n", " "))
    real = " ".join(
        " ".join(ruleset(kind, "OUTSIDE").split()) for kind in KINDS.values() if not kind.layers
    )
    assert len(shown) > 10
    for rule in shown:
        # A map or a number may be too long to show; the lab writes numbers in base ten.
        beginning = rule.partition("…")[0].replace("0x1a5b", str(0x1A5B))
        assert " ".join(beginning.split()) in real, rule


def test_thePairsAreThoseThatTheLabsTestsFind() -> None:
    found = json.loads((DOCS / "reference/matrix.json").read_text("utf-8"))
    assert [kind["name"] for kind in found["kinds"]] == list(KINDS)
    pairs = {(cell["caller"], cell["callee"]): cell["strategy"] for cell in found["pairs"]}
    assert set(pairs) == set(combinations_with_replacement(KINDS, 2))
    for pair, strategy in pairs.items():
        if isDirect(*pair):
            assert strategy in expected(*pair)
        else:
            assert strategy is None
    assert {cell["strategy"] for cell in found["neighbours"]} == {"lan"}
