"""
Tests for L{punchd.server.naming.zone}.
"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.names import dns

from punchd.errors import ConfigurationError
from punchd.server.naming.directory import Entry
from punchd.server.naming.zone import (
    MOST_ZONE,
    STABLE_TTL,
    Question,
    Reply,
    Zone,
    checkedZone,
)
from tests.unit.server.pretending import peerID

BOB = Entry(peerID(1), ("198.51.100.1", "2001:db8::1"), {"web": 8080})
CAROL = Entry(peerID(2), ("198.51.100.2",), {})
DAVE = Entry(peerID(3), ("198.51.100.3",), {}, goneAt=60.0)
ENTRIES = {"bob": BOB, "carol": CAROL, "dave": DAVE}

AXFR, IXFR, CHAOS = 252, 251, 3


def makeZone(*hosts: str, ttl: int = 30) -> Zone:
    clock = Clock()
    clock.advance(100)
    return Zone("peers.example.org", ENTRIES.get, clock.seconds, hosts or ("s.example.org",), ttl)


def ask(name: str, kind: int = dns.A, cls: int = dns.IN, zone: Zone | None = None) -> Reply:
    return (zone or makeZone()).answer(Question(name.encode("ascii"), kind, cls))


def payloads(headers: tuple[dns.RRHeader, ...]) -> list[Any]:
    return [header.payload for header in headers]


def test_aPeersAddressesAreThoseThatAreKnown() -> None:
    assert payloads(ask("bob.peers.example.org").answers) == [dns.Record_A("198.51.100.1")]
    reply = ask("bob.peers.example.org", dns.AAAA)
    assert payloads(reply.answers) == [dns.Record_AAAA("2001:db8::1")]
    assert reply.isAuthoritative
    assert [header.ttl for header in reply.answers] == [30]


def test_caseDoesNotMatterAndComesBackAsItWas() -> None:
    [header] = ask("BoB.Peers.EXAMPLE.org").answers
    name: Any = header.name
    assert name.name == b"BoB.Peers.EXAMPLE.org"


def test_theTextIsThePeersID() -> None:
    [record] = payloads(ask("bob.peers.example.org", dns.TXT).answers)
    assert record.data == [str(BOB.peerID).encode("ascii")]


def test_whoHasGoneIsMarked() -> None:
    assert payloads(ask("dave.peers.example.org").answers) == [dns.Record_A("198.51.100.3")]
    texts = payloads(ask("dave.peers.example.org", dns.TXT).answers)
    assert [record.data for record in texts] == [
        [str(DAVE.peerID).encode("ascii")],
        [b"stale=40"],
    ]


def test_aPublishedServiceHasAPortAtThePeersName() -> None:
    reply = ask("_web._tcp.bob.peers.example.org", dns.SRV)
    assert payloads(reply.answers) == [dns.Record_SRV(0, 0, 8080, b"bob.peers.example.org")]
    assert payloads(reply.additional) == [
        dns.Record_A("198.51.100.1"),
        dns.Record_AAAA("2001:db8::1"),
    ]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("carol.peers.example.org", dns.AAAA),
        ("bob.peers.example.org", dns.MX),
        ("bob.peers.example.org", dns.SRV),
        # Exists for the sake of what is below it.
        ("_tcp.bob.peers.example.org", dns.A),
        ("_web._tcp.bob.peers.example.org", dns.A),
        ("peers.example.org", dns.A),
    ],
)
def test_aNameWithoutSuchARecordIsThere(name: str, kind: int) -> None:
    reply = ask(name, kind)
    assert (reply.code, reply.answers, reply.isAuthoritative) == (dns.OK, (), True)
    assertIsSOA(reply)


@pytest.mark.parametrize(
    "name",
    [
        "nobody.peers.example.org",
        "_tcp.carol.peers.example.org",
        "_ssh._tcp.bob.peers.example.org",
        "web._tcp.bob.peers.example.org",
        "_web._udp.bob.peers.example.org",
        "a.bob.peers.example.org",
        "a._web._tcp.bob.peers.example.org",
        "_tcp.peers.example.org",
    ],
)
@pytest.mark.parametrize("kind", [dns.A, dns.SRV, dns.ALL_RECORDS])
def test_whatIsNotThereIsNot(name: str, kind: int) -> None:
    reply = ask(name, kind)
    assert (reply.code, reply.answers, reply.isAuthoritative) == (dns.ENAME, (), True)
    assertIsSOA(reply)


def assertIsSOA(reply: Reply) -> None:
    """
    How long somebody may believe that there is nothing is said by the TTL and by the minimum.
    """
    [header] = reply.authority
    record: Any = header.payload
    assert (header.type, header.ttl, record.minimum) == (dns.SOA, 30, 30)


@pytest.mark.parametrize(
    "name", ["", "org", "example.org", "bob.example.org", "xpeers.example.org", "bob.peers.example"]
)
def test_otherZonesAreNotOurs(name: str) -> None:
    assert ask(name) == Reply(dns.EREFUSED)


def test_otherClassesAreNotOurs() -> None:
    assert ask("bob.peers.example.org", dns.TXT, CHAOS).code == dns.EREFUSED
    assert payloads(ask("bob.peers.example.org", dns.A, dns.ANY).answers)


@pytest.mark.parametrize("kind", [0, dns.OPT, 249, 250, AXFR, IXFR])
def test_whatIsNoRecordIsNotImplemented(kind: int) -> None:
    assert ask("peers.example.org", kind) == Reply(dns.ENOTIMP)


def test_whoWantsEverythingGetsNextToNothing() -> None:
    reply = ask("bob.peers.example.org", dns.ALL_RECORDS)
    assert payloads(reply.answers) == [dns.Record_HINFO(b"RFC8482", b"")]


def test_theZoneHasAStartOfAuthorityAndAServer() -> None:
    [soa] = payloads(ask("peers.example.org", dns.SOA).answers)
    assert (soa.mname, soa.rname) == (
        dns.Name(b"s.example.org"),
        dns.Name(b"hostmaster.peers.example.org"),
    )
    assert soa.serial == 100
    reply = ask("peers.example.org", dns.NS)
    assert payloads(reply.answers) == [dns.Record_NS(b"s.example.org")]
    assert [header.ttl for header in reply.answers] == [STABLE_TTL]
    assert reply.additional == ()


@pytest.mark.parametrize(
    ("hosts", "server"),
    [
        (("s.example.org",), "s.example.org"),
        (("192.0.2.1", "s.example.org."), "s.example.org"),
        (("192.0.2.1", "2001:db8::5"), "ns.peers.example.org"),
        (("localhost", "192.0.2.1"), "ns.peers.example.org"),
        # Without an address it could not be found.
        (("s.peers.example.org",), "ns.peers.example.org"),
        (("s.peers.example.org", "192.0.2.1"), "s.peers.example.org"),
        (("a.s.peers.example.org", "192.0.2.1"), "ns.peers.example.org"),
        (("peers.example.org", "192.0.2.1"), "ns.peers.example.org"),
        (("speers.example.org", "192.0.2.1"), "speers.example.org"),
    ],
)
def test_theServerIsTheFirstNameThatCanServe(hosts: tuple[str, ...], server: str) -> None:
    assert makeZone(*hosts).server == server


def test_aServerInTheZoneHasItsAddresses() -> None:
    zone = makeZone("192.0.2.1", "2001:db8::5")
    assert payloads(ask("peers.example.org", dns.NS, zone=zone).additional) == [
        dns.Record_A("192.0.2.1"),
        dns.Record_AAAA("2001:db8::5"),
    ]
    assert payloads(ask("ns.peers.example.org", zone=zone).answers) == [dns.Record_A("192.0.2.1")]
    assert ask("a.ns.peers.example.org", zone=zone).code == dns.ENAME
    assert zone.isReserved("NS")
    assert not zone.isReserved("bob")
    assert not makeZone().isReserved("")


@given(
    st.lists(st.binary(min_size=1, max_size=20).filter(lambda label: b"." not in label)),
    st.integers(0, 65535),
    st.integers(0, 65535),
)
def test_everyQuestionHasAReply(labels: list[bytes], kind: int, cls: int) -> None:
    outside = makeZone().answer(Question(b".".join(labels), kind, cls))
    assert outside.code == dns.EREFUSED
    inside = b".".join([*labels, b"bob", b"peers.example.org"])
    reply = makeZone().answer(Question(inside, kind, dns.IN))
    assert reply.isAuthoritative is (reply.code in (dns.OK, dns.ENAME))
    assert reply.isAuthoritative or reply.code == dns.ENOTIMP


@pytest.mark.parametrize(
    ("text", "zone"),
    [
        ("Peers.Example.org.", "peers.example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("lan", "lan"),
        ("a." * 59 + "aa", "a." * 59 + "aa"),
    ],
)
def test_aZoneIsAName(text: str, zone: str) -> None:
    assert checkedZone(text) == zone


@pytest.mark.parametrize("text", ["", ".", "a..b", "-a.org", "a_b.org", "a b", "a." * MOST_ZONE])
def test_whatIsNoNameIsNoZone(text: str) -> None:
    with pytest.raises(ConfigurationError):
        checkedZone(text)
