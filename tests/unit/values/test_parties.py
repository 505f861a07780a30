"""
Tests for L{punchd.values.parties}: situations, and whom a peer dials on a server's word.
"""

import pytest

from punchd.values.addresses import makeAddress
from punchd.values.parties import (
    LocalAddressPolicy,
    Offer,
    Party,
    Situation,
    isCredible,
    isShareableHost,
)

PUBLIC = "198.51.100.1"

# Seen by the server as, told to dial, allowed.
REFLEXIVE = [
    (PUBLIC, "203.0.113.9", True),
    (PUBLIC, PUBLIC, True),
    (PUBLIC, "2001:db8::9", True),
    (PUBLIC, "192.168.1.7", False),
    (PUBLIC, "100.64.0.7", False),
    (PUBLIC, "127.0.0.1", False),
    (PUBLIC, "169.254.169.254", False),
    (PUBLIC, "224.0.0.1", False),
    (PUBLIC, "255.255.255.255", False),
    (PUBLIC, "0.0.0.0", False),
    (PUBLIC, "::1", False),
    (PUBLIC, "ff02::1", False),
    ("192.168.1.2", "192.168.1.7", True),
    ("192.168.1.2", "203.0.113.9", True),
    ("192.168.1.2", "127.0.0.1", False),
    ("192.168.1.2", "169.254.169.254", False),
    ("127.0.0.1", "127.0.0.1", True),
    ("127.0.0.1", "192.168.1.7", True),
    ("127.0.0.1", "169.254.169.254", False),
    ("127.0.0.1", "224.0.0.1", False),
]


@pytest.mark.parametrize(("observed", "address", "allowed"), REFLEXIVE)
def test_whichReflexiveCandidatesAreDialled(observed: str, address: str, allowed: bool) -> None:
    policy = LocalAddressPolicy(makeAddress(observed, 5000))
    assert policy.allowsReflexive(makeAddress(address, 6000)) is allowed


# Seen by the server as, the other seen as, told to dial, allowed.
HOSTS = [
    (PUBLIC, PUBLIC, "192.168.1.7", True),
    (PUBLIC, PUBLIC, "10.1.2.3", True),
    (PUBLIC, PUBLIC, "fd00::7", True),
    (PUBLIC, "203.0.113.9", "192.168.1.7", False),
    (PUBLIC, PUBLIC, "203.0.113.9", False),
    (PUBLIC, PUBLIC, "127.0.0.1", False),
    (PUBLIC, PUBLIC, "169.254.169.254", False),
    (PUBLIC, PUBLIC, "224.0.0.1", False),
    (PUBLIC, PUBLIC, "255.255.255.255", False),
]


@pytest.mark.parametrize(("observed", "reflexive", "host", "allowed"), HOSTS)
def test_whichHostCandidatesAreDialled(
    observed: str, reflexive: str, host: str, allowed: bool
) -> None:
    policy = LocalAddressPolicy(makeAddress(observed, 5000))
    assert policy.allowsHost(makeAddress(host, 6000), makeAddress(reflexive, 7000)) is allowed


SIXTH = "2001:db8::9"

# The other seen as, its IPv6 candidate, told to dial, allowed.
IPV6 = [
    ("203.0.113.9", SIXTH, SIXTH, 6000, True),
    ("203.0.113.9", SIXTH, SIXTH, 6001, False),
    ("203.0.113.9", SIXTH, "2001:db8::a", 6000, False),
    ("203.0.113.9", None, SIXTH, 6000, False),
    ("203.0.113.9", "fd00::9", "fd00::9", 6000, False),
    ("203.0.113.9", "::1", "::1", 6000, False),
    ("203.0.113.9", "ff02::1", "ff02::1", 6000, False),
    ("203.0.113.9", "2002:7f00:1::1", "2002:7f00:1::1", 6000, False),
    ("203.0.113.9", "64:ff9b::7f00:1", "64:ff9b::7f00:1", 6000, False),
    # Of a peer that the server sees by IPv6, any port where it was seen.
    (SIXTH, None, SIXTH, 6001, True),
    ("fd00::9", None, "fd00::9", 6001, False),
]


@pytest.mark.parametrize(("reflexive", "ipv6", "told", "port", "allowed"), IPV6)
def test_whichIPv6CandidatesAreDialled(
    reflexive: str, ipv6: str | None, told: str, port: int, allowed: bool
) -> None:
    offer = Offer(ipv6=None if ipv6 is None else makeAddress(ipv6, 6000))
    other = Party(makeAddress(reflexive, 5000), offer)
    policy = LocalAddressPolicy(makeAddress(PUBLIC, 5000))
    assert policy.allowsIPv6(makeAddress(told, port), other) is allowed


@pytest.mark.parametrize(
    ("caller", "callee", "meets"),
    [
        ("203.0.113.9", PUBLIC, True),
        (SIXTH, "2001:db8::a", True),
        (PUBLIC, SIXTH, False),
        (SIXTH, PUBLIC, False),
    ],
)
def test_twoFamiliesDoNotMeetWhereTheyWereSeen(caller: str, callee: str, meets: bool) -> None:
    situation = Situation(
        Party(makeAddress(caller, 5000), Offer()), Party(makeAddress(callee, 6000), Offer())
    )
    assert situation.isOfOneFamily is meets
    assert situation.meetsAsObserved is meets


def test_portZeroIsNotDialled() -> None:
    policy = LocalAddressPolicy(makeAddress(PUBLIC, 5000))
    assert not policy.allowsReflexive(makeAddress("203.0.113.9", 0))


@pytest.mark.parametrize(
    ("host", "shareable"),
    [
        ("192.168.1.7", True),
        ("fd00::7", True),
        ("127.0.0.1", False),
        ("169.254.1.1", False),
        ("203.0.113.9", False),
        ("224.0.0.1", False),
    ],
)
def test_onlyPrivateHostsAreShareable(host: str, shareable: bool) -> None:
    assert isShareableHost(makeAddress(host, 5000)) is shareable


def test_whoIsSeenUnderAnAddressOfItsOwnHasNoNat() -> None:
    own = Offer(hosts=(makeAddress(PUBLIC, 5000),))
    assert Party(makeAddress(PUBLIC, 5000), own).hasNoNat


def test_whoIsSeenUnderAnotherAddressHasANat() -> None:
    own = Offer(hosts=(makeAddress("192.168.1.7", 5000),))
    assert not Party(makeAddress(PUBLIC, 5000), own).hasNoNat


def test_onePublicAddressIsShared() -> None:
    one = Party(makeAddress(PUBLIC, 5000), Offer())
    other = Party(makeAddress(PUBLIC, 6000), Offer())
    assert Situation(one, other).sharesPublicAddress


def test_twoPublicAddressesAreNotShared() -> None:
    one = Party(makeAddress(PUBLIC, 5000), Offer())
    other = Party(makeAddress("203.0.113.9", 5000), Offer())
    assert not Situation(one, other).sharesPublicAddress


# The server's address, how it says it sees us, credible.
SEEN = [
    ("203.0.113.1", PUBLIC, True),
    ("203.0.113.1", "192.168.1.2", True),
    ("203.0.113.1", "127.0.0.1", False),
    ("203.0.113.1", "::1", False),
    ("203.0.113.1", "169.254.1.1", False),
    ("203.0.113.1", "224.0.0.1", False),
    ("127.0.0.1", "127.0.0.1", True),
]


@pytest.mark.parametrize(("server", "observed", "credible"), SEEN)
def test_whatAServerCanSeeUsAs(server: str, observed: str, credible: bool) -> None:
    assert isCredible(makeAddress(observed, 5000), makeAddress(server, 7761)) is credible
