"""
What runs inside TLS between two peers: the frames of a link.

A link is one sequence of bytes each way, over one connection (a I{path}) after the other. Its
frames are in the sequence: their bytes are counted, and what the other end has not got when a path
is lost is sent again on the next. Frames of the path stand between them: they are not counted, and
are never sent again.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from struct import Struct

from attrs import define, field, frozen

from punchd.errors import ProtocolViolation

#: Bytes before a frame's payload: one of kind, three of length, four of stream.
HEAD_LENGTH = 8

#: The longest payload of a frame that is no C{DATA}: these are held in memory until complete.
MAX_CONTROL = 1024

#: The longest payload of C{DATA}. It is handed on as it comes, so this bounds no memory; it keeps
#: other streams and pings from waiting behind a long frame.
MAX_DATA = 65536

#: The payload of a C{DATA} frame that fills four TLS records (RFC 8446, 5.1) exactly. A byte more
#: would cost a record of its own.
FULL_DATA = 4 * 16384 - HEAD_LENGTH

#: Bytes to read at a time from what goes into a stream: as many such frames go out at once.
GOOD_READ = 8 * FULL_DATA

#: Bytes of a link's name.
LINK_LENGTH = 16

#: The last number that a stream may have, and a generation.
LAST_STREAM = 2**32 - 1
LAST_GENERATION = 2**32 - 1


class Kind(IntEnum):
    """
    What a frame is. From C{JOIN} on it is a frame of the path.
    """

    #: A new stream: 4 bytes of window that its opener grants, and the service (UTF-8).
    OPEN = 1
    #: The service is connected; 4 bytes of window that are granted in return.
    OPENED = 2
    #: It is not; the payload says why, for the person (UTF-8).
    REFUSED = 3
    #: Bytes of the stream.
    DATA = 4
    #: No more C{DATA} will come from this side.
    FIN = 5
    #: The stream broke; the payload says why (UTF-8).
    RESET = 6
    #: Up to which of its bytes a stream may be sent now (8 bytes); it never shrinks.
    CREDIT = 7
    #: A byte: 0 when streams may finish, 1 when they break now; then why the link ends (UTF-8).
    GOODBYE = 8
    #: Let a link go on over this path: L{Join}.
    JOIN = 16
    #: So be it: L{Joined}.
    JOINED = 17
    #: No. A byte: 1 when there is no such link here; then why (UTF-8).
    DECLINED = 18
    #: Answer at once with a C{PONG} of the same 8 bytes.
    PING = 19
    PONG = 20
    #: How many bytes of the sequence have been received (8 bytes).
    ACK = 21


_HEAD = Struct("!II")
_POSITION = Struct("!Q")
_WINDOW = Struct("!I")
_JOIN = struct.Struct(f"!{LINK_LENGTH}sIBQ")
_JOINED = struct.Struct("!QQ")

_NEW = 1

# Looked up for every frame.
_DATA = Kind.DATA

# Pieces of one stream that are handed on together: whoever reads may stop after each such heap.
_MOST_PIECES = 1024


@frozen
class _Rule:
    """
    How long a payload may be, and whether the frame is of a stream or of the sequence at all.
    """

    kind: Kind
    least: int
    most: int
    ofStream: bool
    ofPath: bool


_RULES: tuple[_Rule | None, ...] = tuple(
    {
        rule.kind: rule
        for rule in (
            _Rule(Kind.OPEN, _WINDOW.size, MAX_CONTROL, True, False),
            _Rule(Kind.OPENED, _WINDOW.size, _WINDOW.size, True, False),
            _Rule(Kind.REFUSED, 0, MAX_CONTROL, True, False),
            _Rule(Kind.DATA, 1, MAX_DATA, True, False),
            _Rule(Kind.FIN, 0, 0, True, False),
            _Rule(Kind.RESET, 0, MAX_CONTROL, True, False),
            _Rule(Kind.CREDIT, _POSITION.size, _POSITION.size, True, False),
            _Rule(Kind.GOODBYE, 1, MAX_CONTROL, False, False),
            _Rule(Kind.JOIN, _JOIN.size, _JOIN.size, False, True),
            _Rule(Kind.JOINED, _JOINED.size, _JOINED.size, False, True),
            _Rule(Kind.DECLINED, 1, MAX_CONTROL, False, True),
            _Rule(Kind.PING, 8, 8, False, True),
            _Rule(Kind.PONG, 8, 8, False, True),
            _Rule(Kind.ACK, _POSITION.size, _POSITION.size, False, True),
        )
    }.get(number)  # type: ignore[call-overload]
    for number in range(256)
)


def packHead(kind: Kind, length: int, stream: int = 0) -> bytes:
    """
    The bytes before a payload of C{length} bytes.
    """
    return _HEAD.pack(kind << 24 | length, stream)


def packFrame(kind: Kind, payload: bytes = b"", stream: int = 0) -> bytes:
    """
    A whole frame that is no C{DATA}; longer payloads are cut to L{MAX_CONTROL}.
    """
    payload = payload[:MAX_CONTROL]
    return _HEAD.pack(kind << 24 | len(payload), stream) + payload


def packPosition(kind: Kind, position: int, stream: int = 0) -> bytes:
    """
    A frame whose payload is a number of 8 bytes: C{CREDIT}, C{ACK}, C{PING} or C{PONG}.
    """
    return _HEAD.pack(kind << 24 | 8, stream) + _POSITION.pack(position)


def unpackPosition(payload: bytes) -> int:
    """
    The inverse.
    """
    position: int = _POSITION.unpack(payload)[0]
    return position


def packOpen(stream: int, window: int, service: str) -> bytes:
    """
    C{OPEN}.
    """
    return packFrame(Kind.OPEN, _WINDOW.pack(window) + service.encode("utf-8"), stream)


def packOpened(stream: int, window: int) -> bytes:
    """
    C{OPENED}.
    """
    return packFrame(Kind.OPENED, _WINDOW.pack(window), stream)


def unpackOpen(payload: bytes) -> tuple[int, str]:
    """
    The window, and the service, of C{OPEN} or C{OPENED}.
    """
    return _WINDOW.unpack_from(payload)[0], textOf(payload[_WINDOW.size :])


def packEnd(kind: Kind, isFinal: bool, why: str) -> bytes:
    """
    C{GOODBYE}, or C{DECLINED}.
    """
    return packFrame(kind, bytes([isFinal]) + why.encode("utf-8"))


def unpackEnd(payload: bytes) -> tuple[bool, str]:
    """
    The inverse.

    @raise ProtocolViolation: when the first byte is neither 0 nor 1.
    """
    if payload[0] > 1:
        raise ProtocolViolation(f"an end of kind {payload[0]}")
    return bool(payload[0]), textOf(payload[1:])


def textOf(payload: bytes) -> str:
    """
    What a payload says to people; it cannot control their terminal.
    """
    text = payload.decode("utf-8", "replace")
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "?" for character in text)


@frozen
class Join:
    """
    What the caller of an introduction says first on the path that it elects.

    @ivar link: the link's name.
    @ivar generation: more than that of any path of the link that its sender has heard of.
    @ivar isNew: whether there may be no such link yet at the other end.
    @ivar received: bytes of the other end's sequence that have come.
    """

    link: bytes
    generation: int
    isNew: bool
    received: int

    def pack(self) -> bytes:
        """
        The whole frame.
        """
        return packFrame(
            Kind.JOIN,
            _JOIN.pack(self.link, self.generation, _NEW if self.isNew else 0, self.received),
        )

    @classmethod
    def unpack(cls, payload: bytes) -> Join:
        """
        @raise ProtocolViolation: at flags that have no meaning.
        """
        link, generation, flags, received = _JOIN.unpack(payload)
        if flags & ~_NEW:
            raise ProtocolViolation(f"JOIN with flags {flags}")
        return cls(link, generation, bool(flags & _NEW), received)


@frozen
class Joined:
    """
    What both ends say before the first byte of their sequence on a path.

    @ivar received: bytes of the other end's sequence that have come.
    @ivar begins: where its own sequence goes on behind this: at the beginning of a frame.
    """

    received: int
    begins: int

    def pack(self) -> bytes:
        """
        The whole frame.
        """
        return packFrame(Kind.JOINED, _JOINED.pack(self.received, self.begins))

    @classmethod
    def unpack(cls, payload: bytes) -> Joined:
        """
        The inverse.
        """
        return cls(*_JOINED.unpack(payload))


@define(eq=False)
class FrameReader:
    """
    Takes the bytes of one path as they come, gives frames: C{DATA} in pieces without waiting, the
    others whole. Made for a path; ends with it.

    @ivar position: bytes of the sequence that were handed on. A frame that is not C{DATA}, or a
        head, counts when it is whole; what is only begun when the path ends is dropped.
    @ivar hasMore: whether L{stop} has left something for the next L{read}.
    """

    position: int = 0
    hasMore: bool = field(default=False, init=False)
    _isStopped: bool = field(default=False, init=False)
    _known: int = field(default=0, init=False)
    _kept: bytes | memoryview = field(default=b"", init=False)
    _dataLeft: int = field(default=0, init=False)
    _stream: int = field(default=0, init=False)

    def begin(self, position: int, known: int) -> None:
        """
        The sequence goes on at C{position} here, at the beginning of a frame. What lies before
        C{known} has been handed on already, and is skipped.
        """
        self.position = position
        self._known = known

    def stop(self) -> None:
        """
        In the middle of L{read}: keep the rest for the next one.
        """
        self._isStopped = True

    def read(self, received: bytes | memoryview) -> Iterator[tuple[Kind, int, bytes]]:
        """
        Kind, stream and payload of the frames, or pieces of C{DATA}, that are complete with
        C{received}.

        @raise ProtocolViolation: at what no end may send, whatever the state it is in.
        """
        self.hasMore = self._isStopped = False
        isOurs = bool(self._kept)
        if isOurs:
            # What was left is as much as a read, and may be left again and again.
            received = b"".join((self._kept, received)) if received else self._kept
            self._kept = b""
        at, end = 0, len(received)
        # What has come of one stream goes on together, however many frames it was in: each piece
        # costs its receiver a system call. It counts from then on.
        pieces: list[bytes | memoryview] = []
        position = self.position
        while at < end:
            left = self._dataLeft
            if left:
                piece = received[at : at + left]
                length = len(piece)
                at += length
                self._dataLeft = left - length
                position += length
                if self._known > position - length:
                    piece = piece[self._known - position + length :]
                if piece:
                    pieces.append(piece)
                continue
            if end - at < HEAD_LENGTH:
                break
            word, stream = _HEAD.unpack_from(received, at)
            length = word & 0xFFFFFF
            rule = _RULES[word >> 24]
            if rule is None:
                raise ProtocolViolation(f"a frame of unknown kind {word >> 24}")
            kind = rule.kind
            isMore = kind is _DATA and stream == self._stream and len(pieces) < _MOST_PIECES
            if pieces and not isMore:
                self.position = position
                yield _DATA, self._stream, _joined(pieces)
                pieces = []
                if self._isStopped:
                    break
            if not rule.least <= length <= rule.most:
                raise ProtocolViolation(f"{kind.name} of {length} bytes")
            if rule.ofStream is not (stream > 0):
                raise ProtocolViolation(f"{kind.name} of stream {stream}")
            if kind is _DATA:
                self._stream = stream
                self._dataLeft = length
                position += HEAD_LENGTH
                at += HEAD_LENGTH
                continue
            after = at + HEAD_LENGTH + length
            if end < after:
                break
            payload = bytes(received[at + HEAD_LENGTH : after])
            at = after
            if not rule.ofPath:
                position += HEAD_LENGTH + length
                if position <= self._known:
                    continue
            self.position = position
            yield kind, stream, payload
            # JOINED has it begin elsewhere.
            position = self.position
            if self._isStopped:
                break
        if at < end:
            self.hasMore = self._isStopped
            rest = memoryview(received)[at:]
            self._kept = rest if isOurs and self.hasMore else bytes(rest)
        self.position = position
        if pieces:
            yield _DATA, self._stream, _joined(pieces)


def _joined(pieces: list[bytes | memoryview]) -> bytes:
    return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)
