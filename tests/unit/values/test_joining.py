"""
Tests for L{punchd.values.joining}.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from punchd.errors import ConfigurationError
from punchd.values.joining import MASTER_PORT, JoinAddress
from punchd.values.peers import PeerID

PIN = PeerID(bytes(range(32)))

HOSTS = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,30}[a-z0-9])?", fullmatch=True) | st.ip_addresses(
    v=6
).map(str)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("example.org", JoinAddress("example.org", MASTER_PORT)),
        ("example.org:99", JoinAddress("example.org", 99)),
        (f"example.org#{PIN}", JoinAddress("example.org", MASTER_PORT, PIN)),
        (f" 192.0.2.1:99#{PIN}\n", JoinAddress("192.0.2.1", 99, PIN)),
        (f"[2001:db8::1]:99#{PIN}", JoinAddress("2001:db8::1", 99, PIN)),
        ("[2001:db8::1]", JoinAddress("2001:db8::1", MASTER_PORT)),
        ("2001:db8::1", JoinAddress("2001:db8::1", MASTER_PORT)),
    ],
)
def test_aJoinAddressIsParsed(text: str, address: JoinAddress) -> None:
    assert JoinAddress.parse(text) == address


@pytest.mark.parametrize(
    "text", ["", "#", f"#{PIN}", "example.org#", "example.org#12", ":99", "example.org:x"]
)
def test_anythingElseIsAConfigurationError(text: str) -> None:
    with pytest.raises(ConfigurationError):
        JoinAddress.parse(text)


@pytest.mark.parametrize(
    "text", ["example org", "http://example.org:7761", "example.org/", f"bob@example.org#{PIN}"]
)
def test_whatIsNoHostIsToldAtOnce(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is neither a host name nor an address"):
        JoinAddress.parse(text)


@given(HOSTS, st.integers(1, 65535), st.none() | st.just(PIN))
def test_whatIsPrintedIsParsed(host: str, port: int, pin: PeerID | None) -> None:
    address = JoinAddress(host, port, pin)
    assert JoinAddress.parse(str(address)) == address


def test_whereLeavesThePinOut() -> None:
    assert JoinAddress.parse(f"example.org#{PIN}").where == f"example.org:{MASTER_PORT}"
