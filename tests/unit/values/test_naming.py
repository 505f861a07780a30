"""
Tests for L{punchd.values.naming}.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from punchd.errors import ConfigurationError
from punchd.values.naming import (
    UNLISTED,
    Listing,
    asciiLabel,
    asciiName,
    checkedLabel,
    isLabel,
    isPublishable,
)


@pytest.mark.parametrize("name", ["bob", "B", "7", "my-laptop", "a" * 63, "xn--bcher-kva"])
def test_aHostCanBeCalled(name: str) -> None:
    assert checkedLabel(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-a",
        "a-",
        "a_b",
        "a.b",
        "a b",
        "a" * 64,
        "bücher",
        "a\n",
        "xn--",
        "xn--a",
        "XN--99999999",
    ],
)
def test_aHostCannotBeCalled(name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be a name in the DNS: use 1 to 63"):
        checkedLabel(name)


def test_aServiceHasAnUnderscoreBeforeIt() -> None:
    assert isPublishable("s" * 62)
    assert not isPublishable("s" * 63)
    assert not isPublishable("a_b")


def test_otherLettersHaveAFormInASCII() -> None:
    assert asciiLabel("Bücher") == "xn--bcher-kva"
    assert isLabel(asciiLabel("日本語"))
    assert asciiLabel("bob_1") == "bob_1"


@pytest.mark.parametrize("text", ["ü" * 70, "ü ü", "☃", "\u200d"])
def test_whatHasNoneIsRefused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be a name: as an internationalised name"):
        asciiLabel(text)


@given(st.text(max_size=80))
def test_aLabelIsMadeOrRefused(text: str) -> None:
    try:
        label = asciiLabel(text)
    except ConfigurationError:
        return
    assert label.isascii()


def test_aNameMayEndWithADot() -> None:
    assert asciiName("Peers.Bücher.example.", "zone") == "peers.xn--bcher-kva.example"


@pytest.mark.parametrize("text", ["", ".", "a..b", ".a", "a_b.example"])
def test_aNameHasNoEmptyLabel(text: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be a zone"):
        asciiName(text, "zone")


def test_aListingMayBeEmpty() -> None:
    assert UNLISTED.isEmpty
    assert not Listing(True).isEmpty
    assert not Listing(False, (("web", 80),)).isEmpty
