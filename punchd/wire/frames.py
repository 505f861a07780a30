"""
What runs inside TLS on a punched connection that carries one stream.

A frame is one byte of kind, three bytes of length (big-endian), and that many bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

from attrs import define, field

from punchd.errors import ProtocolViolation

#: Bytes before a frame's payload.
HEAD_LENGTH = 4

#: The longest payload of a frame that is no C{DATA}: these are held in memory until complete.
MAX_CONTROL = 1024

#: The longest payload of C{DATA}. It is handed on as it comes, so this bounds no memory; it keeps
#: pings from waiting behind a long frame.
MAX_DATA = 65536

#: The payload of a C{DATA} frame that fills four TLS records (RFC 8446, 5.1) exactly. Four bytes
#: more would cost a record of their own.
FULL_DATA = 4 * 16384 - HEAD_LENGTH


class Kind(IntEnum):
    """
    What a frame is.
    """

    #: The caller elects this connection and asks for the service named in the payload (UTF-8); an
    #: empty name asks for none: the connection is only measured.
    OPEN = 1
    #: The callee has connected the service.
    OPENED = 2
    #: The callee has not; the payload says why, for the person (UTF-8).
    REFUSED = 3
    #: Bytes of the stream.
    DATA = 4
    #: No more C{DATA} will come from this side.
    FIN = 5
    #: The stream broke; the payload says why (UTF-8).
    RESET = 6
    #: Answer at once with a C{PONG} of the same payload.
    PING = 7
    PONG = 8


_KINDS = {int(kind): kind for kind in Kind}


def packHead(kind: Kind, length: int) -> bytes:
    """
    The bytes before a payload of C{length} bytes.
    """
    return bytes((kind, length >> 16, length >> 8 & 255, length & 255))


def packFrame(kind: Kind, payload: bytes = b"") -> bytes:
    """
    A whole frame that is no C{DATA}; longer payloads are cut to L{MAX_CONTROL}.
    """
    payload = payload[:MAX_CONTROL]
    return packHead(kind, len(payload)) + payload


@define
class FrameReader:
    """
    Takes bytes as they come, gives frames: C{DATA} in pieces without waiting, the others whole.
    """

    _kept: bytes = field(default=b"", init=False)
    _dataLeft: int = field(default=0, init=False)

    def read(self, received: bytes) -> Iterator[tuple[Kind, bytes]]:
        """
        The frames, or pieces of C{DATA}, that are complete with C{received}.

        @raise ProtocolViolation: at an unknown kind, or a length that its kind may not have.
        """
        at, end = 0, len(received)
        if self._kept:
            received = self._kept + received
            end = len(received)
            self._kept = b""
        while at < end:
            if self._dataLeft:
                piece = received[at : at + self._dataLeft]
                self._dataLeft -= len(piece)
                at += len(piece)
                yield Kind.DATA, piece
                continue
            if end - at < HEAD_LENGTH:
                break
            kind = _KINDS.get(received[at])
            length = int.from_bytes(received[at + 1 : at + HEAD_LENGTH], "big")
            if kind is None:
                raise ProtocolViolation(f"a frame of unknown kind {received[at]}")
            if length > (MAX_DATA if kind is Kind.DATA else MAX_CONTROL):
                raise ProtocolViolation(f"{kind.name} of {length} bytes")
            if kind is Kind.DATA:
                self._dataLeft = length
                at += HEAD_LENGTH
                continue
            if end - at < HEAD_LENGTH + length:
                break
            payload = received[at + HEAD_LENGTH : at + HEAD_LENGTH + length]
            at += HEAD_LENGTH + length
            yield kind, payload
        self._kept = received[at:]
