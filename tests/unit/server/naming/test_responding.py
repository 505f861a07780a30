"""
Tests for L{punchd.server.naming.responding}.
"""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv6Address
from twisted.internet.task import Clock
from twisted.names import dns

from punchd.server.naming.directory import Entry
from punchd.server.naming.messages import COOKIE
from punchd.server.naming.responding import (
    ANSWERS_AT_ONCE,
    ANSWERS_PER_SECOND,
    COOKIE_LIFETIME,
    MOST_NETWORKS,
    Responder,
)
from punchd.server.naming.zone import Zone
from punchd.values.addresses import Address
from tests.unit.server.pretending import Counter, peerID, public

ZONE = "z" * 57 + "." + "z" * 62
LONG = "s" * 62, "p" * 63
SERVICE = f"_{LONG[0]}._tcp.{LONG[1]}.{ZONE}"
PEER = f"{LONG[1]}.{ZONE}"
# As long as a name can be; to say that there is none takes more than 512 bytes.
NOBODY = f"x{SERVICE[1:]}"
SERVER = ".".join(["s" * 63, "s" * 63, "s" * 63, "org"])
ENTRY = Entry(peerID(1), ("198.51.100.1", "2001:db8::1"), {LONG[0]: 80})

CLIENT = b"c" * 8
AT_ONCE = int(ANSWERS_AT_ONCE)


def makeResponder(clock: Clock | None = None) -> Responder:
    clock = clock or Clock()
    zone = Zone(ZONE, {LONG[1]: ENTRY}.get, clock.seconds, [SERVER])
    return Responder(clock, zone, Counter())


def ask(name: str, kind: int = dns.A, cookie: bytes | None = None, size: int = 4096) -> bytes:
    """
    A question, with EDNS if it is to have a cookie.
    """
    message = dns.Message(id=7)
    message.addQuery(name, kind)
    if cookie is not None:
        option = struct.pack("!HH", COOKIE, len(cookie)) + cookie if cookie else b""
        message.additional.append(
            dns.RRHeader(b"", dns.OPT, size, 0, dns.UnknownRecord(option)),
        )
    return message.toStr()


def read(answer: bytes | None) -> dns.Message:
    assert answer is not None
    message = dns.Message()
    message.fromStr(answer)
    return message


def cookieIn(answer: bytes | None) -> bytes:
    [header] = [one for one in read(answer).additional if one.type == dns.OPT]
    record: Any = header.payload
    assert record.data[:2] == struct.pack("!H", COOKIE)
    return bytes(record.data[4:])


def test_aQuestionIsAnswered() -> None:
    [answer] = read(makeResponder().toDatagram(ask(PEER), public(9))).answers
    assert answer.payload == dns.Record_A("198.51.100.1", 30)


@pytest.mark.parametrize("name", [SERVICE, NOBODY])
@pytest.mark.parametrize("cookie", [None, b"", CLIENT, CLIENT + b"x" * 12, CLIENT + b"y" * 32])
@pytest.mark.parametrize("kind", [dns.SRV, dns.TXT, dns.ALL_RECORDS])
def test_whoIsNotKnownGetsAtMost512Bytes(name: str, cookie: bytes | None, kind: int) -> None:
    """
    Whatever size it says that it can take.
    """
    answer = makeResponder().toDatagram(ask(name, kind, cookie), public(9))
    assert answer is not None
    assert len(answer) <= 512


def test_whoHasACookieGetsMore() -> None:
    responder = makeResponder()
    first = responder.toDatagram(ask(NOBODY, dns.SRV, CLIENT), public(9))
    assert read(first).trunc
    cookie = cookieIn(first)
    assert cookie[:8] == CLIENT
    second = responder.toDatagram(ask(NOBODY, dns.SRV, cookie), public(9))
    assert second is not None
    assert len(second) > 512
    assert read(second).rCode == dns.ENAME
    # But not more than it can take.
    third = responder.toDatagram(ask(NOBODY, dns.SRV, cookie, size=100), public(9))
    assert third is not None
    assert len(third) <= 512


@pytest.mark.parametrize("change", ["source", "client", "seal", "stamp", "late", "length"])
def test_aCookieIsGoodForWhomItWasMade(change: str) -> None:
    clock = Clock()
    clock.advance(1000)
    responder = makeResponder(clock)
    cookie = cookieIn(responder.toDatagram(ask(PEER, cookie=CLIENT), public(9)))
    source: Address = public(8) if change == "source" else public(9)
    if change == "client":
        cookie = b"d" * 8 + cookie[8:]
    elif change == "seal":
        cookie = cookie[:-1] + bytes([cookie[-1] ^ 1])
    elif change == "stamp":
        cookie = cookie[:8] + (1001).to_bytes(4, "big") + cookie[12:]
    elif change == "late":
        clock.advance(COOKIE_LIFETIME)
    elif change == "length":
        cookie += b"x"
    assert read(responder.toDatagram(ask(NOBODY, dns.SRV, cookie), source)).trunc


def test_aCookieOutlivesAnotherPort() -> None:
    responder = makeResponder()
    cookie = cookieIn(responder.toDatagram(ask(PEER, cookie=CLIENT), public(9, 1)))
    assert not read(responder.toDatagram(ask(NOBODY, dns.SRV, cookie), public(9, 2))).trunc


def test_byTCPTheWholeAnswerComes() -> None:
    message = read(makeResponder().toStream(ask(NOBODY, dns.SRV, CLIENT), public(9)))
    assert (message.trunc, message.rCode, len(message.authority)) == (0, dns.ENAME, 1)


def flood(responder: Responder, count: int, packet: bytes, source: Address) -> list[bytes]:
    answers = (responder.toDatagram(packet, source) for _ in range(count))
    return [answer for answer in answers if answer is not None]


def test_aFloodIsAnsweredByFewInvitationsToTCP() -> None:
    clock = Clock()
    responder = makeResponder(clock)
    question = ask(PEER)
    whole = flood(responder, AT_ONCE, question, public(9))
    assert len(whole) == AT_ONCE
    assert all(read(answer).answers for answer in whole)
    rest = flood(responder, 1000, question, public(9))
    assert len(rest) == 500
    assert all(read(answer).trunc and len(answer) == len(question) for answer in rest)
    # Nobody else suffers.
    assert read(responder.toDatagram(question, public(8))).answers
    clock.advance(1)
    again = flood(responder, 1000, question, public(9))
    assert sum(bool(read(answer).answers) for answer in again) == ANSWERS_PER_SECOND


def test_aFloodInSomebodysNameDoesNotTakeItsAnswers() -> None:
    responder = makeResponder()
    cookie = cookieIn(responder.toDatagram(ask(PEER, cookie=CLIENT), public(9)))
    flood(responder, 3 * AT_ONCE, ask(PEER), public(9))
    assert read(responder.toDatagram(ask(PEER, cookie=cookie), public(9))).answers
    assert read(responder.toStream(ask(PEER), public(9))).answers


def test_aFloodByTCPEndsTheConnection() -> None:
    responder = makeResponder()
    answers = [responder.toStream(ask(PEER), public(9)) for _ in range(AT_ONCE + 1)]
    assert answers[-1] is None
    assert None not in answers[:-1]


def test_aFloodOfNonsenseIsAnsweredUpToTheLimit() -> None:
    nonsense = ask(PEER)[:-1]
    answers = flood(makeResponder(), 10 * AT_ONCE, nonsense, public(9))
    assert len(answers) == AT_ONCE
    assert {len(answer) for answer in answers} == {12}


def test_ofManySpoofedSourcesOnlySoManyAreRemembered() -> None:
    clock = Clock()
    responder = makeResponder(clock)
    for number in range(MOST_NETWORKS + 100):
        source = IPv6Address("UDP", f"2001:db8:{number:x}::1", 53)
        responder.toDatagram(ask(PEER), source)
    assert len(responder._unverified) == MOST_NETWORKS
    clock.advance(10)
    responder.sweep()
    assert len(responder._unverified) == 0


@given(st.binary(max_size=600))
def test_nothingIsTooOdd(packed: bytes) -> None:
    responder = makeResponder()
    answer = responder.toDatagram(packed, public(9))
    assert answer is None or len(answer) <= 512
    assert (responder.toStream(packed, public(9)) is None) is (answer is None)
