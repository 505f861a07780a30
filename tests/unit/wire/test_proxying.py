"""
Tests for L{punchd.wire.proxying}, by the parsers that Twisted has for it.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.protocols.haproxy._v1parser import V1Parser
from twisted.protocols.haproxy._v2parser import V2Parser

from punchd.values.addresses import Ends, makeAddress
from punchd.values.peers import NAME, PeerAddress, PeerID
from punchd.wire.proxying import PEER_ID, PEER_NAME, ProxyVersion

ALICE = PeerAddress("alice", PeerID(bytes(range(32))))

FOURTH = st.ip_addresses(v=4).map(str)
SIXTH = st.ip_addresses(v=6).map(str).filter(lambda host: not host.startswith("::ffff:"))
PORTS = st.integers(0, 65535)
ENDS = st.builds(
    lambda hosts, ports: Ends(makeAddress(hosts[0], ports[0]), makeAddress(hosts[1], ports[1])),
    st.tuples(FOURTH, FOURTH) | st.tuples(SIXTH, SIXTH),
    st.tuples(PORTS, PORTS),
)
CALLERS = st.builds(
    PeerAddress,
    st.from_regex(NAME, fullmatch=True).map(str.strip),
    st.binary(min_size=32, max_size=32).map(PeerID),
)

#: What comes behind a header, and belongs to the caller.
FOLLOWING = b"GET / HTTP/1.1\r\n\r\n"


def parsed(version: ProxyVersion, header: bytes) -> Any:
    """
    What Twisted finds in it.
    """
    parser = V1Parser() if version is ProxyVersion.TEXT else V2Parser()
    info, rest = parser.feed(header + FOLLOWING)
    assert rest == FOLLOWING
    return info


def fields(header: bytes, addresses: int) -> dict[int, bytes]:
    """
    What version 2 carries behind so many bytes of addresses.
    """
    found, rest = {}, header[16 + addresses :]
    while rest:
        length = int.from_bytes(rest[1:3], "big")
        found[rest[0]] = rest[3 : 3 + length]
        assert len(found[rest[0]]) == length
        rest = rest[3 + length :]
    return found


@given(version=st.sampled_from(ProxyVersion), ends=ENDS, caller=st.none() | CALLERS)
def test_othersReadTheAddresses(
    version: ProxyVersion, ends: Ends, caller: PeerAddress | None
) -> None:
    info = parsed(version, version.pack(ends, caller))
    for read, told in ((info.source, ends.there), (info.destination, ends.here)):
        # Twisted does not compress an IPv6 address.
        assert makeAddress(read.host, read.port) == told


@given(ends=ENDS, caller=CALLERS)
def test_theTextFitsInALine(ends: Ends, caller: PeerAddress) -> None:
    line = ProxyVersion.TEXT.pack(ends, caller)
    assert len(line) <= 107
    assert line.index(b"\r\n") == len(line) - 2


@given(ends=ENDS, caller=CALLERS)
def test_theBinaryFormTellsTheCaller(ends: Ends, caller: PeerAddress) -> None:
    header = ProxyVersion.BINARY.pack(ends, caller)
    assert fields(header, 36 if ":" in ends.there.host else 12) == {
        PEER_ID: str(caller.peerID).encode(),
        PEER_NAME: caller.name.encode(),
    }


def test_addressesThatAreNotKnownAreNotToldOf() -> None:
    info = parsed(ProxyVersion.BINARY, ProxyVersion.BINARY.pack(None, ALICE))
    assert (info.source, info.destination) == (None, None)
    # Section 2.1 has a longer form, too, which HAProxy does not take; Twisted takes that one alone.
    assert ProxyVersion.TEXT.pack(None, ALICE) == b"PROXY UNKNOWN\r\n"


def test_withoutAddressesTheCommandIsOneThatEverybodyTakes() -> None:
    assert ProxyVersion.BINARY.pack(None, None)[12:] == b"\x20\x00\x00\x00"


def test_theCallerIsToldAlsoWhereTheAddressesAreNotKnown() -> None:
    assert fields(ProxyVersion.BINARY.pack(None, ALICE), 0)[PEER_NAME] == b"alice"


def test_aStrangerHasNoFields() -> None:
    ends = Ends(makeAddress("192.0.2.1", 1), makeAddress("192.0.2.2", 2))
    assert fields(ProxyVersion.BINARY.pack(ends, None), 12) == {}


@pytest.mark.parametrize("version", ProxyVersion)
def test_twoFamiliesBecomeOne(version: ProxyVersion) -> None:
    """
    A server that is reached over both sees each peer in the one that it has.
    """
    ends = Ends(makeAddress("192.0.2.1", 1), makeAddress("2001:db8::2", 2))
    info = parsed(version, version.pack(ends, ALICE))
    assert makeAddress(info.source.host, info.source.port) == ends.there
    assert makeAddress(info.destination.host, info.destination.port) == ends.here


def test_theTextHasNoIPv4InsideOfIPv6() -> None:
    ends = Ends(makeAddress("192.0.2.1", 1), makeAddress("2001:db8::2", 2))
    line = ProxyVersion.TEXT.pack(ends, None)
    assert line == b"PROXY TCP6 ::ffff:c000:201 2001:db8::2 1 2\r\n"


@pytest.mark.parametrize("version", ProxyVersion)
def test_theScopeOfAnAddressStaysHere(version: ProxyVersion) -> None:
    ends = Ends(makeAddress("fe80::1%eth0", 1), makeAddress("fe80::2%eth0", 2))
    info = parsed(version, version.pack(ends, ALICE))
    assert makeAddress(info.source.host, 1) == makeAddress("fe80::1", 1)
