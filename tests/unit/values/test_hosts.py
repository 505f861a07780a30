"""
Tests for L{punchd.values.parties.hostsFor}: which host candidates another peer is told.
"""

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address

from punchd.values.addresses import Address, Scope, scopeOf
from punchd.values.parties import hostsFor

ONE = IPv4Address("TCP", "198.51.100.1", 5000)
SAME = IPv4Address("TCP", "198.51.100.1", 6000)
OTHER = IPv4Address("TCP", "203.0.113.9", 5000)
PRIVATE = IPv4Address("TCP", "192.168.1.7", 5000)

ADDRESSES = st.builds(
    lambda host, port: IPv4Address("TCP", str(host), port),
    st.ip_addresses(v=4),
    st.integers(0, 65535),
) | st.builds(
    lambda host, port: IPv6Address("TCP", str(host), port),
    st.ip_addresses(v=6),
    st.integers(0, 65535),
)


def test_privateHostsAreToldBehindOnePublicAddress() -> None:
    assert hostsFor([PRIVATE], ONE, SAME) == (PRIVATE,)


def test_privateHostsAreNotToldToOthers() -> None:
    assert hostsFor([PRIVATE], ONE, OTHER) == ()


def test_theObservedHostIsToldToEverybody() -> None:
    assert hostsFor([ONE], ONE, OTHER) == (ONE,)


def test_anothersPublicHostIsToldToNobody() -> None:
    assert hostsFor([OTHER], ONE, SAME) == ()
    assert hostsFor([OTHER], ONE, OTHER) == ()


def test_onALoopbackServerTheLoopbackHostIsTold() -> None:
    host = IPv4Address("TCP", "127.0.0.1", 4000)
    seen = IPv4Address("TCP", "127.0.0.1", 5000)
    assert hostsFor([host], seen, seen) == (host,)


@given(st.lists(ADDRESSES), ADDRESSES, ADDRESSES)
def test_nobodyIsSentToAThirdParty(hosts: list[Address], own: Address, other: Address) -> None:
    for host in hostsFor(hosts, own, other):
        assert host.port != 0
        assert host.host == own.host or (scopeOf(host) is Scope.PRIVATE and own.host == other.host)
