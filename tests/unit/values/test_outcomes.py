"""
Tests for L{punchd.values.outcomes} and L{punchd.values.plans}.
"""

import json

from attrs import evolve

from punchd.errors import NoPath
from punchd.values.addresses import makeAddress
from punchd.values.outcomes import Outcome, Result, Try, Way
from punchd.values.plans import Plan, PlannedAttempt

REMOTE = makeAddress("203.0.113.9", 4000)
REFUSED = Try(Way.DIALLED, REMOTE, Result.REFUSED, 0.25)


def test_aTryIsOneLine() -> None:
    assert REFUSED.line() == "dialled 203.0.113.9:4000: refused after 250 ms"


def test_aTrysDetailIsInItsLine() -> None:
    one = Try(Way.ACCEPTED, REMOTE, Result.NOT_AUTHENTICATED, 1.0, "a wrong key")
    assert one.line() == (
        "accepted 203.0.113.9:4000: not authenticated (a wrong key) after 1000 ms"
    )


def test_equalTriesAreCounted() -> None:
    outcome = Outcome("lan", Result.TIMED_OUT, 2.0, (REFUSED, REFUSED, REFUSED))
    assert outcome.line() == (
        "lan: no answer after 2.0 s (dialled 203.0.113.9:4000: refused 3 times)"
    )


def test_triesThatAreToldTogetherCountAsMany() -> None:
    several = evolve(REFUSED, remote=makeAddress("203.0.113.9", 0), sockets=250)
    outcome = Outcome("birthday", Result.TIMED_OUT, 2.0, (several, evolve(several, sockets=6)))
    assert outcome.line() == (
        "birthday: no answer after 2.0 s (dialled 203.0.113.9:*: refused 256 times)"
    )


def test_triesToSeveralPortsOfAnIPv6Host() -> None:
    one = Try(Way.DIALLED, makeAddress("2001:db8::1", 0), Result.REFUSED, 0.25, sockets=2)
    assert one.where == "[2001:db8::1]:*"


def test_withoutTriesNothingWasDialled() -> None:
    assert Outcome("lan", Result.TIMED_OUT, 2.0).line().endswith("(nothing was dialled)")


def test_theDetailIsToldInsteadOfTheTries() -> None:
    outcome = Outcome("lan", Result.NOT_POSSIBLE, 0.0, (REFUSED,), "the server is away")
    assert outcome.line() == "lan: not possible after 0.0 s (the server is away)"


def test_anOutcomeIsJSON() -> None:
    outcome = Outcome("lan", Result.TIMED_OUT, 2.00004, (REFUSED,))
    assert json.loads(json.dumps(outcome.toJSON())) == {
        "strategy": "lan",
        "result": "no answer",
        "seconds": 2.0,
        "detail": "",
        "tries": [
            {
                "way": "dialled",
                "remote": "203.0.113.9:4000",
                "result": "refused",
                "seconds": 0.25,
                "detail": "",
                "sockets": 1,
            }
        ],
    }


def test_noPathTellsEveryOutcome() -> None:
    outcomes = (Outcome("lan", Result.TIMED_OUT, 2.0), Outcome("other", Result.FAILED, 1.0))
    text = str(NoPath("bob", outcomes))
    assert text == (
        "no direct path to bob: lan: no answer after 2.0 s (nothing was dialled); "
        "other: failed after 1.0 s (nothing was dialled)"
    )


def test_noPathWithoutTriesSaysSo() -> None:
    assert str(NoPath("bob", ())) == "no direct path to bob: nothing could be tried"


def test_aPlanEndsWithItsLastDeadline() -> None:
    plan = Plan((PlannedAttempt("a", 0.0, 4.0), PlannedAttempt("b", 1.0, 2.0)))
    assert plan.deadline == 4.0


def test_anEmptyPlanIsOverAtOnce() -> None:
    assert Plan(()).deadline == 0.0


def test_aPlanIsOneLine() -> None:
    plan = Plan((PlannedAttempt("a", 0.0, 4.0), PlannedAttempt("b", 1.2, 2.0)))
    assert plan.line() == "a at 0.00 s (until 4.00 s), b at 1.20 s (until 2.00 s)"
