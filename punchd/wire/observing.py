"""
The assist service's question and answer.

A peer asks "under which address do you see this connection?" from a port of its choice; the token
in the question says to the server whose port it is. The answer is hidden by the question's nonce,
because some NATs rewrite addresses that they find in payloads (RFC 8489, 14.2 has the same reason).
"""

from __future__ import annotations

from attrs import frozen

from punchd.errors import ProtocolViolation, Refused
from punchd.values.addresses import Address, packAddress, unpackAddress
from punchd.wire.versions import ASSIST_VERSION, checkVersion

_MAGIC = b"PUNCHA"

#: Bytes in a token.
TOKEN_LENGTH = 16

#: Bytes in a question's nonce: as many as the longest packed address.
MASK_LENGTH = 18

#: Bytes in a question.
QUESTION_LENGTH = len(_MAGIC) + 2 + TOKEN_LENGTH + MASK_LENGTH

#: Bytes in an answer before the address.
ANSWER_HEAD_LENGTH = len(_MAGIC) + 2


@frozen
class Question:
    """
    @ivar token: single-use, from the master connection.
    @ivar mask: random bytes that hide the address in the answer.
    """

    token: bytes
    mask: bytes

    def pack(self) -> bytes:
        """
        The question's L{QUESTION_LENGTH} bytes.
        """
        return _MAGIC + bytes([ASSIST_VERSION, 0]) + self.token + self.mask

    @classmethod
    def unpack(cls, packed: bytes) -> Question:
        """
        @param packed: exactly L{QUESTION_LENGTH} bytes.
        @raise ProtocolViolation: when this is no question.
        @raise punchd.errors.IncompatibleVersions: when it is one of another version.
        """
        checkBeginning(packed)
        if len(packed) != QUESTION_LENGTH:
            raise ProtocolViolation(f"a question has {QUESTION_LENGTH} bytes, not {len(packed)}")
        checkVersion("assist protocol", packed[6], ASSIST_VERSION)
        return cls(packed[8 : 8 + TOKEN_LENGTH], packed[8 + TOKEN_LENGTH :])


def packAnswer(observed: Address | None, mask: bytes) -> bytes:
    """
    The answer to a question.

    @param observed: C{None} when the question's token is not valid.
    """
    address = b"" if observed is None else packAddress(observed)
    return _MAGIC + bytes([ASSIST_VERSION, len(address)]) + _masked(address, mask)


def answerLength(head: bytes) -> int:
    """
    How many bytes an answer has, from its first L{ANSWER_HEAD_LENGTH}.

    @raise ProtocolViolation: when these bytes begin no answer.
    @raise punchd.errors.IncompatibleVersions: when it is one of another version.
    """
    checkBeginning(head)
    checkVersion("assist protocol", head[6], ASSIST_VERSION)
    if head[7] not in (0, 6, 18):
        raise ProtocolViolation(f"an address of {head[7]} bytes")
    return ANSWER_HEAD_LENGTH + head[7]


def unpackAnswer(packed: bytes, mask: bytes) -> Address:
    """
    The address in a whole answer.

    @raise Refused: when the server did not take the token.
    @raise ProtocolViolation: when this is no answer.
    """
    if len(packed) < ANSWER_HEAD_LENGTH or len(packed) != answerLength(packed):
        raise ProtocolViolation("this is no answer of an assist service")
    address = packed[ANSWER_HEAD_LENGTH:]
    if not address:
        raise Refused("the assist service did not take the token: it is used, too old or forged")
    return unpackAddress(_masked(address, mask))


def checkBeginning(received: bytes) -> None:
    """
    @raise ProtocolViolation: when neither a question nor an answer begins with these bytes.
    """
    if received[: len(_MAGIC)] != _MAGIC[: len(received)]:
        raise ProtocolViolation("this is not the assist protocol")


def _masked(address: bytes, mask: bytes) -> bytes:
    return bytes(left ^ right for left, right in zip(address, mask, strict=False))
