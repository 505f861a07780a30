"""
Tests for L{punchd.peer.access}.
"""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from punchd.errors import ConfigurationError
from punchd.identity.pins import Pins
from punchd.interfaces import IAccessPolicy
from punchd.peer.access import AllowList, parseNamed, parseRule
from punchd.values.peers import PeerID
from tests.unit.peer.clients import makePins

BOB = PeerID(b"b" * 32)
CAROL = PeerID(b"c" * 32)
STRANGER = PeerID(b"m" * 32)


@pytest.fixture
def pins(tmp_path: Path) -> Pins:
    return makePins(tmp_path, bob=BOB, carol=CAROL)


def test_itIsAPolicy(pins: Pins) -> None:
    verifyObject(IAccessPolicy, AllowList.parse(pins, []))


def test_withoutRulesEveryPinnedPeerMayReachEverything(pins: Pins) -> None:
    policy = AllowList.parse(pins, [])
    assert policy.admits(BOB)
    assert policy.permits(BOB, "anything")


@pytest.mark.parametrize("rules", [[], ["bob"], ["bob=ssh"]])
def test_whoIsNotPinnedMayNothingEver(pins: Pins, rules: list[str]) -> None:
    policy = AllowList.parse(pins, rules)
    assert not policy.admits(STRANGER)
    assert not policy.permits(STRANGER, "ssh")


def test_withRulesOnlyThoseThatARuleNames(pins: Pins) -> None:
    policy = AllowList.parse(pins, ["bob"])
    assert (policy.admits(BOB), policy.admits(CAROL)) == (True, False)
    assert not policy.permits(CAROL, "ssh")


def test_aRuleMayNameServices(pins: Pins) -> None:
    policy = AllowList.parse(pins, ["bob=ssh,web"])
    allowed = [service for service in ("ssh", "web", "ftp") if policy.permits(BOB, service)]
    assert allowed == ["ssh", "web"]


def test_severalRulesForOnePeerAddUp(pins: Pins) -> None:
    policy = AllowList.parse(pins, ["bob=ssh", "bob=web"])
    assert policy.permits(BOB, "ssh")
    assert policy.permits(BOB, "web")
    assert not policy.permits(BOB, "ftp")


@pytest.mark.parametrize("rules", [["bob", "bob=ssh"], ["bob=ssh", "bob"]])
def test_aRuleForEverythingCounts(pins: Pins, rules: list[str]) -> None:
    assert AllowList.parse(pins, rules).permits(BOB, "ftp")


def test_theServerIsToldOfThoseWhoAreAdmitted(pins: Pins) -> None:
    assert AllowList.parse(pins, []).admitted() == {BOB, CAROL}
    assert AllowList.parse(pins, ["carol=ssh"]).admitted() == {CAROL}


def test_whoIsPinnedLaterIsAdmittedAtOnce(pins: Pins) -> None:
    policy = AllowList.parse(pins, [])
    pins.trust("mallory", STRANGER)
    assert policy.admits(STRANGER)


def test_aRuleForANameThatIsNotPinnedYetIsARule(pins: Pins) -> None:
    policy = AllowList.parse(pins, ["dave"])
    assert not policy.admits(BOB)


@pytest.mark.parametrize("rule", ["", "=ssh", "bob=", "bob=ssh,", "bob=,", "b b", "bob=a/b", "-x"])
def test_whatIsNoRuleIsAConfigurationError(rule: str) -> None:
    with pytest.raises(ConfigurationError, match="--allow"):
        parseRule(rule)


@given(st.text())
def test_anyTextIsARuleOrRefused(text: str) -> None:
    try:
        peer, services = parseRule(text)
    except ConfigurationError:
        return
    assert text == (peer if services is None else text)
    assert services is None or services


def test_aNameAndARestAreTakenApart() -> None:
    assert parseNamed("web=tcp:host=a:port=80", "--expose") == ("web", "tcp:host=a:port=80")


@pytest.mark.parametrize("text", ["", "web", "web=", "=tcp:80", "w b=tcp:80"])
def test_whatIsNoNameAndRestIsAConfigurationError(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--expose"):
        parseNamed(text, "--expose")


def test_rulesForNobodyWeKnowAreTold(pins: Pins) -> None:
    assert AllowList.parse(pins, ["bob", "carrol", "alicia=ssh"]).strangers() == [
        "alicia",
        "carrol",
    ]
