"""
The first bytes on a punched connection, both ways, before TLS.

They say which introduction a connection belongs to, so that one port can serve several at once, and
they make a connection to oneself visible. They are no proof of anything: TLS is.
"""

from __future__ import annotations

from enum import IntEnum

from attrs import frozen

from punchd.errors import ProtocolViolation
from punchd.wire.versions import PREAMBLE_VERSION, checkVersion

_MAGIC = b"PUNCHD"

#: Bytes in a session, and in a nonce.
SESSION_LENGTH = 16
NONCE_LENGTH = 16

#: Bytes in a preamble.
PREAMBLE_LENGTH = len(_MAGIC) + 2 + SESSION_LENGTH + NONCE_LENGTH


class Side(IntEnum):
    """
    Who one is in an introduction. The caller is TLS client, whatever TCP did.
    """

    CALLER = 0
    CALLEE = 1

    @property
    def other(self) -> Side:
        """
        The opposite side.
        """
        return Side(1 - self)


@frozen
class Preamble:
    """
    @ivar side: the sender's.
    @ivar session: the introduction's, L{SESSION_LENGTH} bytes.
    @ivar nonce: the sender's own for this introduction, L{NONCE_LENGTH} bytes.
    """

    side: Side
    session: bytes
    nonce: bytes

    def pack(self) -> bytes:
        """
        The preamble's L{PREAMBLE_LENGTH} bytes.
        """
        return _MAGIC + bytes([PREAMBLE_VERSION, self.side]) + self.session + self.nonce

    @classmethod
    def unpack(cls, packed: bytes) -> Preamble:
        """
        @param packed: exactly L{PREAMBLE_LENGTH} bytes.
        @raise ProtocolViolation: when this is no preamble.
        @raise punchd.errors.IncompatibleVersions: when it is one of another version.
        """
        checkBeginning(packed)
        if len(packed) != PREAMBLE_LENGTH:
            raise ProtocolViolation(f"a preamble has {PREAMBLE_LENGTH} bytes, not {len(packed)}")
        checkVersion("preamble", packed[6], PREAMBLE_VERSION)
        if packed[7] not in (Side.CALLER, Side.CALLEE):
            raise ProtocolViolation(f"a preamble from side {packed[7]}")
        return cls(Side(packed[7]), packed[8 : 8 + SESSION_LENGTH], packed[8 + SESSION_LENGTH :])


def checkBeginning(received: bytes) -> None:
    """
    Notice a stranger at the first wrong byte.

    @raise ProtocolViolation: when no preamble begins with these bytes.
    """
    if received[: len(_MAGIC)] != _MAGIC[: len(received)]:
        raise ProtocolViolation("this is no punchd peer: its first bytes are no preamble")
