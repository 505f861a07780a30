"""
DNS messages: questions as they come in, and answers as they go out.

Questions are read here and not by L{twisted.names.dns.Message}, which cannot tell C{a.b} as one
label from two, takes labels that are too long, follows pointers, and fails in many ways on records
that nobody has asked it to understand. Answers are written by it.
"""

from __future__ import annotations

import struct

from attrs import field, frozen
from twisted.names import dns

from punchd.server.naming.zone import Question, Reply

#: The longest answer over UDP (https://www.dnsflagday.net/2020/), the one that everybody takes (RFC
#: 1035, 4.2.1), and the longest over TCP.
MOST_UDP = 1232
LEAST_UDP = 512
MOST_TCP = 65535

#: The option that carries cookies, and their lengths (RFC 7873, 4).
COOKIE = 10
CLIENT_COOKIE = 8
SERVER_COOKIES = range(8, 33)

_HEADER = struct.Struct("!6H")
_RECORD = struct.Struct("!HHIH")
_PAIR = struct.Struct("!HH")
_ANSWER_BIT = 0x8000

# More than any question has a reason to carry: OPT, and a signature that we do not understand.
_MOST_ADDITIONAL = 2

_MOST_NAME = 255
_MOST_LABEL = 63

# What does not fit into the four bits of the header (RFC 6891, 6.1.3).
_RCODE_BITS = 4


@frozen
class Extension:
    """
    What the OPT record of a question says (RFC 6891).

    @ivar size: the longest answer that the asker can take by UDP.
    @ivar wantsSecurity: the DO bit, which goes back as it came (RFC 3225, 3).
    @ivar clientCookie: C{None} where there is none.
    @ivar serverCookie: what we are said to have given.
    """

    size: int
    version: int = 0
    wantsSecurity: bool = False
    clientCookie: bytes | None = None
    serverCookie: bytes = b""


@frozen
class Query:
    """
    @ivar question: C{None} if it could not be read.
    @ivar problem: an RCODE, if there is something about the message that keeps it from being
        answered.
    """

    id: int
    opCode: int = dns.OP_QUERY
    wantsRecursion: bool = False
    checkingDisabled: bool = False
    question: Question | None = None
    extension: Extension | None = None
    problem: int = field(default=dns.OK)


class _Bad(Exception):
    """
    This is no well-formed message.
    """


def parseQuery(packed: bytes) -> Query | None:
    """
    What C{packed} asks.

    @return: C{None} for what must not be answered: an answer, or less than a header.
    """
    if len(packed) < _HEADER.size:
        return None
    number, flags, questions, answers, authority, additional = _HEADER.unpack_from(packed)
    if flags & _ANSWER_BIT:
        return None
    opCode, wantsRecursion = flags >> 11 & 15, bool(flags & 0x0100)
    if opCode != dns.OP_QUERY:
        return Query(number, opCode, wantsRecursion, problem=dns.ENOTIMP)
    disabled = bool(flags & 0x0010)
    question, extension, problem = None, None, dns.OK
    try:
        if questions != 1 or answers or authority or additional > _MOST_ADDITIONAL:
            raise _Bad
        question, at = _question(packed)
        for _ in range(additional):
            extension, at = _additional(packed, at, extension)
        if at != len(packed):
            raise _Bad
    except (_Bad, struct.error):
        problem = dns.EFORMAT
    else:
        if extension is not None and extension.version:
            problem = dns.EBADVERSION
    return Query(number, opCode, wantsRecursion, disabled, question, extension, problem)


def packReply(query: Query, reply: Reply, most: int, serverCookie: bytes = b"") -> bytes:
    """
    The answer to C{query}: whole, or without what is only helpful, or with nothing but the word
    that the rest did not fit.

    @param most: how many bytes it may have.
    @param serverCookie: goes to who has sent a cookie of its own.
    """
    packed = _pack(query, reply, serverCookie)
    if len(packed) > most and reply.additional:
        packed = _pack(query, _without(reply), serverCookie)
    if len(packed) > most:
        packed = packTruncated(query, serverCookie)
    return packed


def packTruncated(query: Query, serverCookie: bytes = b"") -> bytes:
    """
    No answer, but an invitation to ask by TCP.
    """
    return _pack(query, Reply(isAuthoritative=True), serverCookie, isTruncated=True)


def _without(reply: Reply) -> Reply:
    return Reply(reply.code, reply.isAuthoritative, reply.answers, reply.authority)


def _pack(query: Query, reply: Reply, cookie: bytes, isTruncated: bool = False) -> bytes:
    message = dns.Message(
        id=query.id,
        answer=1,
        opCode=query.opCode,
        recDes=int(query.wantsRecursion),
        auth=reply.isAuthoritative,
        rCode=reply.code & (1 << _RCODE_BITS) - 1,
        trunc=int(isTruncated),
        # Whoever calls sees to the length.
        maxSize=0,
        checkingDisabled=int(query.checkingDisabled),
    )
    asked = query.question
    if asked is not None:
        message.queries = [dns.Query(asked.name, asked.type, asked.cls)]
    message.answers = list(reply.answers)
    message.authority = list(reply.authority)
    message.additional = list(reply.additional)
    if query.extension is not None:
        message.additional.append(_opt(query.extension, reply.code, cookie))
    return message.toStr()


def _opt(extension: Extension, code: int, cookie: bytes) -> dns.RRHeader:
    options = b""
    if extension.clientCookie is not None:
        both = extension.clientCookie + cookie
        options = _PAIR.pack(COOKIE, len(both)) + both
    flags = code >> _RCODE_BITS << 24 | extension.wantsSecurity << 15
    return dns.RRHeader(b"", dns.OPT, MOST_UDP, flags, dns.UnknownRecord(options))


def _question(packed: bytes) -> tuple[Question, int]:
    at, labels = _HEADER.size, []
    while True:
        if at >= len(packed):
            raise _Bad
        length = packed[at]
        at += 1
        if not length:
            break
        label = packed[at : at + length]
        at += length
        # There is nothing before the first name that a pointer could lead to.
        if length > _MOST_LABEL or at > len(packed) or b"." in label:
            raise _Bad
        labels.append(label)
    if at - _HEADER.size > _MOST_NAME:
        raise _Bad
    kind, cls = _PAIR.unpack_from(packed, at)
    return Question(b".".join(labels), kind, cls), at + _PAIR.size


def _additional(
    packed: bytes, at: int, extension: Extension | None
) -> tuple[Extension | None, int]:
    """
    Read one record; only OPT means something.
    """
    isRoot = packed[at : at + 1] == b"\0"
    at = _skipName(packed, at)
    kind, cls, ttl, length = _RECORD.unpack_from(packed, at)
    at += _RECORD.size
    data = packed[at : at + length]
    if len(data) < length:
        raise _Bad
    if kind == dns.OPT:
        if extension is not None or not isRoot:
            raise _Bad
        extension = _extension(cls, ttl, data)
    return extension, at + length


def _skipName(packed: bytes, at: int) -> int:
    began = at
    while at < len(packed) and at - began < _MOST_NAME:
        length = packed[at]
        if length >= 0xC0:
            return at + 2
        if not length:
            return at + 1
        if length > _MOST_LABEL:
            break
        at += 1 + length
    raise _Bad


def _extension(size: int, ttl: int, options: bytes) -> Extension:
    client, server, at = None, b"", 0
    while at < len(options):
        kind, length = _PAIR.unpack_from(options, at)
        at += _PAIR.size
        data = options[at : at + length]
        at += length
        if len(data) < length:
            raise _Bad
        if kind == COOKIE and client is None:
            client, server = data[:CLIENT_COOKIE], data[CLIENT_COOKIE:]
            if len(client) < CLIENT_COOKIE or (server and len(server) not in SERVER_COOKIES):
                raise _Bad
    return Extension(size, ttl >> 16 & 0xFF, bool(ttl & 0x8000), client, server)
