"""
Tests for L{punchd.hooks.facts}.
"""

import re

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from punchd.hooks.facts import Facts, Subject, variablesFor
from punchd.values.peers import NAME
from tests.unit.hooks.pretending import ID, makeFacts

LINK = Facts(Subject.LINK, "bob", ID, path="direct", strategy="lan")


def test_everythingIsSaidInVariables() -> None:
    facts = evolve(
        makeFacts(),
        addresses=("198.51.100.1", "2001:db8::1"),
        services=(("ssh", 22), ("web", 8080)),
    )
    assert variablesFor(facts, None) == {
        "PUNCHD_EVENT": "arrived",
        "PUNCHD_CHANGED": "address ipv4 ipv6 services observed",
        "PUNCHD_SUBJECT": "peer",
        "PUNCHD_PEER": "bob",
        "PUNCHD_PEER_ID": "07" * 32,
        "PUNCHD_ADDRESS": "198.51.100.1",
        "PUNCHD_IPV4": "198.51.100.1",
        "PUNCHD_IPV6": "2001:db8::1",
        "PUNCHD_SERVICES": "ssh=22 web=8080",
        "PUNCHD_OBSERVED": "198.51.100.1",
        "PUNCHD_PATH": "",
        "PUNCHD_STRATEGY": "",
    }


def test_whoIsSeenByIPv6IsReachedThere() -> None:
    facts = evolve(makeFacts(), addresses=("2001:db8::1",))
    variables = variablesFor(facts, None)
    assert variables["PUNCHD_ADDRESS"] == variables["PUNCHD_IPV6"] == "2001:db8::1"
    assert variables["PUNCHD_IPV4"] == ""


def test_whatHasChangedIsNamed() -> None:
    before, after = makeFacts(), makeFacts(address="198.51.100.2")
    assert variablesFor(after, before)["PUNCHD_EVENT"] == "changed"
    assert variablesFor(after, before)["PUNCHD_CHANGED"] == "address ipv4 observed"
    more = evolve(before, services=(("web", 80),))
    assert variablesFor(more, before)["PUNCHD_CHANGED"] == "services"


def test_whoHasGoneHasNothing() -> None:
    variables = variablesFor(makeFacts().gone(), makeFacts())
    assert variables["PUNCHD_EVENT"] == "left"
    assert variables["PUNCHD_CHANGED"] == "address ipv4 observed"
    said = {name for name, value in variables.items() if value}
    assert said == {f"PUNCHD_{name}" for name in ["EVENT", "CHANGED", "SUBJECT", "PEER", "PEER_ID"]}


def test_aLinkAlwaysHasAWordForItsPath() -> None:
    assert variablesFor(LINK, None)["PUNCHD_PATH"] == "direct"
    assert variablesFor(LINK, None)["PUNCHD_CHANGED"] == "path strategy"
    gone = variablesFor(LINK.gone(), LINK)
    assert (gone["PUNCHD_EVENT"], gone["PUNCHD_PATH"]) == ("left", "none")
    assert gone["PUNCHD_CHANGED"] == "path strategy"


def test_theSameVariablesAreAlwaysThere() -> None:
    assert set(variablesFor(LINK.gone(), None)) == set(variablesFor(makeFacts(), LINK))


@pytest.mark.parametrize(("facts", "text"), [(makeFacts(), "bob"), (LINK, "the link to bob")])
def test_peopleReadWhatItIsAbout(facts: Facts, text: str) -> None:
    assert str(facts) == text


def test_aNameIsTheSameInAnyCaseAndWithAnyOwner() -> None:
    assert makeFacts("Bob").key == makeFacts("bOB").key == "peer-bob"
    assert makeFacts().key != LINK.key


NAMES = st.from_regex(NAME, fullmatch=True)


@given(NAMES, st.lists(st.tuples(NAMES, st.integers(1, 65535))))
def test_noNameBreaksOutOfAVariable(name: str, services: list[tuple[str, int]]) -> None:
    facts = evolve(makeFacts(name), services=tuple(services))
    variables = variablesFor(facts, None)
    for value in variables.values():
        assert re.fullmatch(r"[A-Za-z0-9._:= -]*", value)
    # Words for a shell that splits them, none of which is a pattern or an option.
    assert len(variables["PUNCHD_SERVICES"].split()) == len(services)
    assert not variables["PUNCHD_PEER"].startswith("-")
    assert re.fullmatch(r"[a-z0-9._-]{1,69}", facts.key)
