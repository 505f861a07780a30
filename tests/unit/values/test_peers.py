"""
Tests for L{punchd.values.peers}.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.interfaces import IAddress
from zope.interface.verify import verifyObject

from punchd.errors import ConfigurationError
from punchd.values.peers import PeerAddress, PeerID, checkedName

PEER_IDS = st.builds(PeerID, st.binary(min_size=32, max_size=32))


@given(PEER_IDS)
def test_whatIsPrintedIsParsed(peerID: PeerID) -> None:
    assert PeerID.parse(str(peerID)) == peerID


@given(PEER_IDS)
def test_capitalsAndSpaceAroundAreTheSameID(peerID: PeerID) -> None:
    assert PeerID.parse(f"  {str(peerID).upper()}\n") == peerID


@pytest.mark.parametrize("text", ["", "00", "g" * 64, "0" * 63, "0" * 65, "٣" * 64, "0" * 10_000])
def test_anythingElseIsNoID(text: str) -> None:
    with pytest.raises(ConfigurationError, match="punchd id"):
        PeerID.parse(text)


def test_theErrorsTextIsOneShortLine() -> None:
    with pytest.raises(ConfigurationError) as caught:
        PeerID.parse("x\n" * 5000)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


def test_theIDIsTheHashOfTheKey() -> None:
    # SHA-256 of nothing, FIPS 180-4.
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert str(PeerID.ofPublicKey(b"")) == empty


def test_theShortFormIsTheBeginning() -> None:
    assert PeerID(bytes(range(32))).short == "000102030405"


@pytest.mark.parametrize("name", ["a", "bob", "Bob-2", "host.example", "x_y", "0", "a" * 63])
def test_aUsableName(name: str) -> None:
    assert checkedName(name) == name


@pytest.mark.parametrize(
    "name", ["", "-a", ".a", "_a", "a" * 64, "a b", "a/b", "a=b", "a\n", "ä", "../a", "a\0"]
)
def test_anUnusableNameIsAConfigurationError(name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be a service"):
        checkedName(name, "service")


@given(PEER_IDS)
def test_anAddressNamesThePeer(peerID: PeerID) -> None:
    address = PeerAddress("bob", peerID)
    verifyObject(IAddress, address)
    assert address == PeerAddress.fromJSON(address.toJSON())
    assert str(address) == f"bob ({peerID.short}…)"
