"""
Tests for L{punchd.server.naming.messages}.
"""

import struct

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.names import dns

from punchd.server.naming.messages import (
    COOKIE,
    MOST_TCP,
    MOST_UDP,
    Extension,
    Query,
    packReply,
    packTruncated,
    parseQuery,
)
from punchd.server.naming.zone import Question, Reply

NAME = b"\3bob\5peers\7example\3org\0"
ASKED = Question(b"bob.peers.example.org", dns.A)
ROOT = b"\0"

LABELS = st.binary(min_size=1, max_size=63).filter(lambda label: b"." not in label)


def packed(
    name: bytes = NAME,
    *,
    number: int = 7,
    flags: int = 0,
    counts: tuple[int, int, int, int] = (1, 0, 0, 0),
    kind: int = dns.A,
    cls: int = dns.IN,
    rest: bytes = b"",
) -> bytes:
    return struct.pack("!6H", number, flags, *counts) + name + struct.pack("!HH", kind, cls) + rest


def opt(
    size: int = 1232, ttl: int = 0, options: bytes = b"", name: bytes = ROOT, length: int = 0
) -> bytes:
    return name + struct.pack("!HHIH", dns.OPT, size, ttl, length or len(options)) + options


def option(kind: int, data: bytes) -> bytes:
    return struct.pack("!HH", kind, len(data)) + data


def extended(*records: bytes) -> Query:
    query = parseQuery(packed(counts=(1, 0, 0, len(records)), rest=b"".join(records)))
    assert query is not None
    return query


def test_aQuestionIsRead() -> None:
    assert parseQuery(packed()) == Query(7, question=ASKED)
    # RD and CD.
    assert parseQuery(packed(flags=0x0110)) == Query(
        7, wantsRecursion=True, checkingDisabled=True, question=ASKED
    )


@given(st.lists(LABELS, max_size=3), st.integers(0, 65535), st.integers(0, 65535))
def test_everyNameIsRead(labels: list[bytes], kind: int, cls: int) -> None:
    name = b"".join(bytes([len(label)]) + label for label in labels) + ROOT
    query = parseQuery(packed(name, kind=kind, cls=cls))
    assert query is not None
    assert query.question == Question(b".".join(labels), kind, cls)
    # Twisted, which does more, agrees.
    message = dns.Message()
    message.fromStr(packed(name, kind=kind, cls=cls))
    [asked] = message.queries
    assert (asked.name.name, asked.type, asked.cls) == (b".".join(labels), kind, cls)


@pytest.mark.parametrize("data", [b"", b"\0" * 11, packed(flags=0x8000), packed(flags=0xA800)])
def test_whatIsNoQuestionIsNotAnswered(data: bytes) -> None:
    assert parseQuery(data) is None


@pytest.mark.parametrize("opCode", range(1, 16))
def test_onlyQuestionsAreImplemented(opCode: int) -> None:
    query = parseQuery(packed(flags=opCode << 11) + b"anything")
    assert query == Query(7, opCode, problem=dns.ENOTIMP)


@pytest.mark.parametrize(
    "data",
    [
        packed(counts=(0, 0, 0, 0)),
        packed(counts=(2, 0, 0, 0)),
        packed(counts=(1, 1, 0, 0)),
        packed(counts=(1, 0, 1, 0)),
        packed(counts=(65535, 65535, 65535, 65535)),
        packed(counts=(1, 0, 0, 3), rest=opt() * 3),
        packed(counts=(1, 0, 0, 1)),
        packed(rest=b"more"),
        packed()[:-1],
        packed()[:20],
        packed(b""),
        packed(b"\x40" + b"a" * 64 + ROOT),
        packed(b"\xc0\x0c"),
        packed(b"\3a.b\0"),
        packed(b"\1a" * 127 + b"\2aa" + ROOT),
        packed(counts=(1, 0, 0, 2), rest=opt() + opt()),
        packed(counts=(1, 0, 0, 1), rest=opt(name=b"\1a\0")),
        packed(counts=(1, 0, 0, 1), rest=opt(length=9)),
        packed(counts=(1, 0, 0, 1), rest=opt()[:-1]),
        packed(counts=(1, 0, 0, 1), rest=opt(options=b"\0\x0a")),
        packed(counts=(1, 0, 0, 1), rest=opt(options=struct.pack("!HH", 3, 5) + b"abc")),
        packed(counts=(1, 0, 0, 1), rest=opt(options=option(COOKIE, b"short"))),
        packed(counts=(1, 0, 0, 1), rest=opt(options=option(COOKIE, bytes(15)))),
        packed(counts=(1, 0, 0, 1), rest=opt(options=option(COOKIE, bytes(41)))),
    ],
)
def test_whatIsMalformedIsToldSo(data: bytes) -> None:
    query = parseQuery(data)
    assert query is not None
    assert (query.id, query.problem) == (7, dns.EFORMAT)


@given(st.binary(max_size=600) | st.binary(max_size=80).map(lambda end: packed() + end))
def test_nothingIsTooOddToBeRead(data: bytes) -> None:
    query = parseQuery(data)
    if query is not None:
        answer = packReply(query, Reply(query.problem), 512)
        assert len(answer) <= max(len(data), 12) + 11 + 32
        assert answer[:2] == data[:2]


@given(st.data())
def test_aChangedByteIsNoTrouble(data: st.DataObject) -> None:
    good = bytearray(
        packed(counts=(1, 0, 0, 1), rest=opt(options=option(COOKIE, bytes(24)) + option(8, b"x")))
    )
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    query = parseQuery(bytes(good))
    assert query is None or packReply(query, Reply(query.problem), 512)


def test_anExtensionIsRead() -> None:
    assert extended(opt(4096, 0x8000)).extension == Extension(4096, 0, True)
    cookie = opt(options=option(3, b"id") + option(COOKIE, b"c" * 8 + b"s" * 16))
    assert extended(cookie).extension == Extension(1232, 0, False, b"c" * 8, b"s" * 16)
    assert extended(cookie, b"\3key\0" + struct.pack("!HHIH", 250, 255, 0, 0)).problem == dns.OK


def test_anotherVersionOfExtensionsIsRefused() -> None:
    query = extended(opt(ttl=1 << 16))
    assert query.problem == dns.EBADVERSION
    message = unpacked(packReply(query, Reply(query.problem), 512))
    assert message.rCode == 0
    [header] = message.additional
    # The upper bits of the RCODE, and the version that is spoken here.
    assert header.ttl == 1 << 24


def unpacked(answer: bytes) -> dns.Message:
    message = dns.Message()
    message.fromStr(answer)
    return message


def records(count: int) -> tuple[dns.RRHeader, ...]:
    return tuple(
        dns.RRHeader(ASKED.name, dns.A, dns.IN, 30, dns.Record_A(f"192.0.2.{number}"))
        for number in range(count)
    )


def test_anAnswerSaysWhatWasAsked() -> None:
    query = Query(7, wantsRecursion=True, question=ASKED)
    answer = packReply(query, Reply(isAuthoritative=True, answers=records(1)), 512)
    message = unpacked(answer)
    assert (message.id, message.answer, message.auth, message.trunc) == (7, 1, 1, 0)
    # Recursion is wanted, and not to be had.
    assert (message.recDes, message.recAv) == (1, 0)
    assert message.queries == [dns.Query(ASKED.name, ASKED.type)]
    assert [header.payload for header in message.answers] == [dns.Record_A("192.0.2.0", 30)]
    assert message.additional == []
    # The name is written once.
    assert len(answer) == 12 + len(NAME) + 4 + 2 + 10 + 4


def test_extensionsAreAnsweredByExtensions() -> None:
    query = Query(7, question=ASKED, extension=Extension(4096, 0, True, b"c" * 8))
    [header] = unpacked(packReply(query, Reply(), 512, b"s" * 12)).additional
    assert (header.type, header.cls, header.ttl) == (dns.OPT, MOST_UDP, 0x8000)
    assert header.payload == dns.UnknownRecord(option(COOKIE, b"c" * 8 + b"s" * 12), ttl=0x8000)


def test_whatIsOnlyHelpfulIsLeftOutFirst() -> None:
    reply = Reply(answers=records(20), additional=records(20))
    query = Query(7, question=ASKED)
    message = unpacked(packReply(query, reply, 512))
    assert (len(message.answers), len(message.additional), message.trunc) == (20, 0, 0)
    message = unpacked(packReply(query, reply, MOST_TCP))
    assert (len(message.answers), len(message.additional)) == (20, 20)


def test_whatDoesNotFitIsToBeAskedByTCP() -> None:
    reply = Reply(isAuthoritative=True, answers=records(40))
    query = Query(7, question=ASKED, extension=Extension(1232))
    answer = packReply(query, reply, 512)
    assert answer == packTruncated(query)
    message = unpacked(answer)
    assert (message.trunc, message.answers, len(message.queries)) == (1, [], 1)
    assert len(packReply(query, reply, MOST_UDP)) > 512
    assert len(packReply(evolve(query, extension=None), reply, MOST_TCP)) > 512
