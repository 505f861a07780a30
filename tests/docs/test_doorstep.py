"""
The strategy of the tutorial "Your first strategy".
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from zope.interface import implementer
from zope.interface.verify import verifyObject

from punchd.interfaces import IAttempt, IStrategy
from punchd.strategies.planning import makePlan
from punchd.values.addresses import Address, makeAddress
from punchd.values.outcomes import Outcome, Result
from punchd.values.parties import Offer, Party, Situation

EXAMPLE = Path(__file__).parents[2] / "docs/examples/doorstep"


@pytest.fixture
def doorstep(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    monkeypatch.delitem(sys.modules, "doorstep", raising=False)
    module: Any = __import__("doorstep")
    return module.Doorstep()


def party(host: str, inside: str | None = None) -> Party:
    offer = Offer(hosts=(makeAddress(inside or host, 5000),), strategies=(("doorstep", 1),))
    return Party(makeAddress(host, 5000), offer)


PUBLIC = party("198.51.100.1")
NATTED = party("203.0.113.1", "192.168.0.2")


@implementer(IAttempt)
@define
class FakeAttempt:
    """
    Remembers what was to be raced.
    """

    situation: Situation
    isCaller: bool
    clock: Clock = field(factory=Clock)
    random: Random = field(factory=lambda: Random(1))
    raced: list[tuple[object, list[Address], bool, int]] = field(factory=list)
    notes: list[str] = field(factory=list)

    def heldPort(self) -> Any:
        return "held"

    def freshPort(self) -> Any:
        raise AssertionError("not needed")

    def race(
        self, port: Any, remotes: Sequence[Address], listening: bool, retries: int = 1
    ) -> Deferred[Outcome]:
        self.raced.append((port, list(remotes), listening, retries))
        return succeed(Outcome("doorstep", Result.CONNECTED, 0.0))

    def ordinaryPort(self) -> Any:
        raise AssertionError("not needed")

    def leasedPort(self) -> Any:
        return None

    def ipv6Port(self) -> Any:
        return None

    def spray(self, remotes: Sequence[Address], port: Any = None, patience: float = 1.0) -> Any:
        raise AssertionError("not needed")

    def tell(self, body: bytes, port: Any = None) -> Any:
        raise AssertionError("not needed")

    def hear(self) -> Any:
        raise AssertionError("not needed")

    def note(self, step: str) -> None:
        self.notes.append(step)


def test_itIsAStrategy(doorstep: Any) -> None:
    assert verifyObject(IStrategy, doorstep)


def test_theFakeIsAnAttempt() -> None:
    assert verifyObject(IAttempt, FakeAttempt(Situation(PUBLIC, NATTED), True))


@pytest.mark.parametrize(
    ("caller", "callee", "applies"),
    [
        (PUBLIC, NATTED, True),
        (NATTED, PUBLIC, True),
        (PUBLIC, PUBLIC, True),
        (NATTED, NATTED, False),
    ],
)
def test_itAppliesWhenSomebodyHasNoNat(
    doorstep: Any, caller: Party, callee: Party, applies: bool
) -> None:
    plan = makePlan(Situation(caller, callee), {"doorstep": doorstep})
    assert [one.strategy for one in plan.attempts] == ["doorstep"] * applies


@pytest.mark.parametrize(
    ("caller", "callee"), [(PUBLIC, NATTED), (NATTED, PUBLIC), (PUBLIC, PUBLIC)]
)
def test_oneWaitsAndTheOtherDials(doorstep: Any, caller: Party, callee: Party) -> None:
    situation = Situation(caller, callee)
    callers, callees = FakeAttempt(situation, True), FakeAttempt(situation, False)
    for attempt in (callers, callees):
        outcomes: list[Outcome] = []
        doorstep.attempt(attempt).addCallback(outcomes.append)
        assert [outcome.result for outcome in outcomes] == [Result.CONNECTED]
    [callersRace], [calleesRace] = callers.raced, callees.raced
    waiting: tuple[object, ...] = ("held", [], True, 1)
    if callee.hasNoNat:
        assert callersRace == ("held", [callee.reflexive], False, 20)
        assert calleesRace == waiting
    else:
        assert callersRace == waiting
        assert calleesRace == ("held", [caller.reflexive], False, 20)


def test_punchdFindsItBesideItsOwn(tmp_path: Path) -> None:
    """
    As it is after C{pip install ./doorstep}: the module and the dropin are on Python's path.
    """
    shutil.copytree(EXAMPLE, tmp_path / "doorstep", ignore=shutil.ignore_patterns("__pycache__"))
    shown = subprocess.run(
        [sys.executable, "-c", "from punchd.cli.main import main; main(['strategies', '--json'])"],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{tmp_path / 'doorstep'}:{EXAMPLE.parents[2]}"},
    )
    [found] = [one for one in json.loads(shown.stdout) if one["name"] == "doorstep"]
    assert found == {"name": "doorstep", "version": 1, "package": "doorstep", "problem": None}
