"""
Tests for L{punchd.server.hosts}.
"""

import pytest
from twisted.internet.address import IPv4Address, IPv6Address

from punchd.errors import ConfigurationError
from punchd.server.hosts import assistsAt, assistsBeside, checkedHost
from punchd.values.addresses import Address
from punchd.wire.commands import Assist

MASTER4, MASTER6 = IPv4Address("TCP", "0.0.0.0", 7761), IPv6Address("TCP", "::", 7761)
ASSIST4, ASSIST6 = IPv4Address("TCP", "0.0.0.0", 7762), IPv6Address("TCP", "::", 7764)
NAME, HOST4, HOST6 = "server.example.org", "203.0.113.1", "2001:db8::1"


@pytest.mark.parametrize(
    ("assist", "master", "hosts", "told"),
    [
        # The master's own family: where the peer found the master.
        (ASSIST4, MASTER4, [NAME, HOST4, HOST6], [Assist(None, 7762)]),
        (ASSIST6, MASTER6, [NAME], [Assist(None, 7764)]),
        # Peers that come by IPv4 need to be told the other one.
        (ASSIST6, MASTER6, [HOST4, HOST6], [Assist(None, 7764), Assist(HOST6, 7764)]),
        (ASSIST6, MASTER4, [HOST4, HOST6], [Assist(HOST6, 7764)]),
        (ASSIST4, MASTER6, [HOST4, HOST6], [Assist(HOST4, 7762)]),
        # Without a literal address there is nothing better to tell.
        (ASSIST6, MASTER4, [NAME, HOST4], [Assist(None, 7764)]),
        (ASSIST4, MASTER6, [NAME, HOST6], [Assist(None, 7762)]),
        # A service that is bound somewhere is there.
        (IPv6Address("TCP", HOST6, 7764), MASTER4, [NAME], [Assist(HOST6, 7764)]),
        (IPv6Address("TCP", HOST6, 7764), MASTER6, [NAME], [Assist(HOST6, 7764)]),
    ],
)
def test_assistServicesOfBothFamiliesAreToldSoThatPeersFindThem(
    assist: Address, master: Address, hosts: list[str], told: list[Assist]
) -> None:
    assert assistsAt(assist, master, hosts) == told


@pytest.mark.parametrize(
    ("assists", "told"),
    [
        ([ASSIST4], []),
        ([IPv4Address("TCP", "203.0.113.2", 7763)], []),
        ([ASSIST4, IPv4Address("TCP", "203.0.113.2", 7763)], [Assist("203.0.113.2", 7762)]),
        ([ASSIST4, IPv6Address("TCP", HOST6, 7763)], []),
    ],
)
def test_aServiceThatIsBoundNowhereIsToldAtAddressesOfOthers(
    assists: list[Address], told: list[Assist]
) -> None:
    assert assistsBeside(assists, MASTER4) == told


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("server.example", "server.example"),
        ("localhost", "localhost"),
        ("192.0.2.1", "192.0.2.1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("my_box", "my_box"),
    ],
)
def test_aHostIsANameOrAnAddress(text: str, host: str) -> None:
    assert checkedHost(text) == host


@pytest.mark.parametrize(
    "text", ["", "a b", "a:1", "a#b", "-a", "a..b", "x" * 64 + ".example", "a/b", "[a]", "a\nb"]
)
def test_whatIsNeitherIsRefused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="neither a host name nor an address"):
        checkedHost(text)
