"""
Tests for L{punchd.values.addresses}.
"""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address

from punchd.errors import ConfigurationError
from punchd.values.addresses import (
    Address,
    Scope,
    makeAddress,
    packAddress,
    scopeOf,
    showAddress,
    splitHostPort,
    unpackAddress,
)
from tests.unit.values.addressing import ADDRESSES

SCOPES = [
    ("0.0.0.0", Scope.NEVER),
    ("0.1.2.3", Scope.NEVER),
    ("224.0.0.1", Scope.NEVER),
    ("239.255.255.255", Scope.NEVER),
    ("240.0.0.1", Scope.NEVER),
    ("255.255.255.255", Scope.NEVER),
    ("::", Scope.NEVER),
    ("ff02::1", Scope.NEVER),
    ("127.0.0.1", Scope.LOOPBACK),
    ("127.255.0.9", Scope.LOOPBACK),
    ("::1", Scope.LOOPBACK),
    ("169.254.169.254", Scope.LINK),
    ("fe80::1", Scope.LINK),
    ("febf::1", Scope.LINK),
    ("10.0.0.1", Scope.PRIVATE),
    ("172.16.0.1", Scope.PRIVATE),
    ("172.31.255.255", Scope.PRIVATE),
    ("192.168.1.1", Scope.PRIVATE),
    ("100.64.0.1", Scope.PRIVATE),
    ("100.127.255.255", Scope.PRIVATE),
    ("fd00::1", Scope.PRIVATE),
    ("fc00::1", Scope.PRIVATE),
    ("172.32.0.1", Scope.GLOBAL),
    ("172.15.255.255", Scope.GLOBAL),
    ("100.128.0.1", Scope.GLOBAL),
    ("198.51.100.1", Scope.GLOBAL),
    ("2001:db8::1", Scope.GLOBAL),
]


@pytest.mark.parametrize(("host", "scope"), SCOPES)
def test_howFarAnAddressReaches(host: str, scope: Scope) -> None:
    assert scopeOf(makeAddress(host, 80)) is scope


def test_anIPv4HostInIPv6ClothesReachesNowhere() -> None:
    assert scopeOf(IPv6Address("TCP", "::ffff:192.168.1.1", 80)) is Scope.NEVER


def test_portZeroReachesNowhere() -> None:
    assert scopeOf(makeAddress("198.51.100.1", 0)) is Scope.NEVER


@given(ADDRESSES)
def test_multicastReachesNowhere(address: Address) -> None:
    if ip_address(address.host).is_multicast:
        assert scopeOf(address) is Scope.NEVER


@given(ADDRESSES)
def test_whatWasPackedIsUnpacked(address: Address) -> None:
    assert unpackAddress(packAddress(address)) == address


@given(st.binary(max_size=40))
def test_onlyTwoLengthsAreAddresses(packed: bytes) -> None:
    if len(packed) in (6, 18):
        assert packAddress(unpackAddress(packed)) == packed
    else:
        with pytest.raises(ValueError, match="6 or 18 bytes"):
            unpackAddress(packed)


def test_anIPv4HostIsOneHoweverItIsWritten() -> None:
    assert makeAddress("::ffff:192.0.2.1", 80) == IPv4Address("TCP", "192.0.2.1", 80)


@pytest.mark.parametrize("port", [-1, 65536])
def test_aPortThatIsNoneMakesNoAddress(port: int) -> None:
    with pytest.raises(ValueError, match="no TCP port"):
        makeAddress("192.0.2.1", port)


def test_aNameMakesNoAddress() -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        makeAddress("example.org", 80)


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (IPv4Address("TCP", "192.0.2.1", 80), "192.0.2.1:80"),
        (IPv6Address("TCP", "2001:db8::1", 80), "[2001:db8::1]:80"),
        ("something else", "something else"),
    ],
)
def test_addressesAreShownAsPeopleWriteThem(address: object, text: str) -> None:
    assert showAddress(address) == text


@given(ADDRESSES.filter(lambda address: address.port > 0))
def test_whatIsShownCanBeReadBack(address: Address) -> None:
    host, port = splitHostPort(showAddress(address))
    assert makeAddress(host, port) in (address, makeAddress(address.host, address.port))


@pytest.mark.parametrize(
    ("text", "default", "parts"),
    [
        ("example.org:80", None, ("example.org", 80)),
        ("192.0.2.1:65535", None, ("192.0.2.1", 65535)),
        ("[2001:db8::1]:80", None, ("2001:db8::1", 80)),
        ("example.org", 7761, ("example.org", 7761)),
        ("[2001:db8::1]", 7761, ("2001:db8::1", 7761)),
        ("2001:db8::1", 7761, ("2001:db8::1", 7761)),
    ],
)
def test_hostAndPortAreTakenApart(text: str, default: int | None, parts: tuple[str, int]) -> None:
    assert splitHostPort(text, default) == parts


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example.org",
        ":80",
        "[]:80",
        "example.org:",
        "example.org:0",
        "example.org:65536",
        "example.org:-1",
        "example.org:http",
        "example.org:+80",
        "example.org:²",
        "example.org:٣",
        "example.org:" + "9" * 5000,
        "2001:db8::1",
        "[2001:db8::1]",
    ],
)
def test_whatIsNoHostAndPortIsAConfigurationError(text: str) -> None:
    with pytest.raises(ConfigurationError):
        splitHostPort(text)


@given(st.text(), st.none() | st.integers(1, 65535))
def test_anyTextIsTakenApartOrRefused(text: str, default: int | None) -> None:
    try:
        host, port = splitHostPort(text, default)
    except ConfigurationError:
        return
    assert host
    assert 0 < port < 65536
