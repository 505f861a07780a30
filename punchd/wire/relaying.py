"""
What is said to the relay before two peers' bytes pass through it.

Each end opens a connection and shows its token. When both are there the relay says so to both, and
from then on passes on whatever comes, without a look at it. Or it refuses, and says why.
"""

from __future__ import annotations

from attrs import define, field, frozen

from punchd.errors import ProtocolViolation, Refused
from punchd.wire.versions import RELAY_VERSION, checkVersion

_MAGIC = b"PUNCHR"

#: Bytes in a token.
TOKEN_LENGTH = 16

#: Bytes in an opening.
OPENING_LENGTH = len(_MAGIC) + 2 + TOKEN_LENGTH

#: Bytes in an answer before its reason.
ANSWER_HEAD_LENGTH = len(_MAGIC) + 2

#: The longest reason of a refusal, in bytes: its length is one of them.
MAX_REASON = 255

# Where in both of them the version stands.
_VERSION_AT = len(_MAGIC)

_WHAT = "relay protocol"


@frozen
class Opening:
    """
    What an end says first.

    @ivar token: single-use, from the introduction.
    """

    token: bytes

    def pack(self) -> bytes:
        """
        The opening's L{OPENING_LENGTH} bytes.
        """
        return _MAGIC + bytes([RELAY_VERSION, 0]) + self.token

    @classmethod
    def unpack(cls, packed: bytes) -> Opening:
        """
        @param packed: exactly L{OPENING_LENGTH} bytes.
        @raise ProtocolViolation: when this is no opening.
        @raise punchd.errors.IncompatibleVersions: when it is one of another version.
        """
        checkBeginning(packed)
        if len(packed) != OPENING_LENGTH:
            raise ProtocolViolation(f"an opening has {OPENING_LENGTH} bytes, not {len(packed)}")
        return cls(packed[-TOKEN_LENGTH:])


def packAcceptance() -> bytes:
    """
    Both ends are there: what follows comes from the other one.
    """
    return _MAGIC + bytes([RELAY_VERSION, 0])


def packRefusal(reason: str) -> bytes:
    """
    There will be no relayed path.

    @param reason: for the person; cut where it is too long, and never empty.
    """
    told = (reason or "no reason is given").encode("utf-8", "replace")[:MAX_REASON]
    # Not in the middle of a character.
    told = told.decode("utf-8", "ignore").encode("utf-8")
    return _MAGIC + bytes([RELAY_VERSION, len(told)]) + told


@define
class AnswerReader:
    """
    Takes the relay's answer as it comes. Made for each connection to a relay.
    """

    _received: bytes = field(default=b"", init=False)

    def read(self, received: bytes) -> bytes | None:
        """
        @return: C{None} while the answer is not whole; then what came behind it, which is the other
            end's. Nothing is to be read here afterwards.
        @raise Refused: with the relay's reason.
        @raise ProtocolViolation: when this is no answer of a relay.
        @raise punchd.errors.IncompatibleVersions: when it is one of another version.
        """
        self._received += received
        checkBeginning(self._received)
        if len(self._received) < ANSWER_HEAD_LENGTH:
            return None
        length = self._received[ANSWER_HEAD_LENGTH - 1]
        rest = self._received[ANSWER_HEAD_LENGTH:]
        if not length:
            return rest
        if len(rest) < length:
            return None
        text = rest[:length].decode("utf-8", "replace")
        raise Refused("".join(one if one.isprintable() else "?" for one in text))


def checkBeginning(received: bytes) -> None:
    """
    Notice a stranger at the first wrong byte.

    @raise ProtocolViolation: when neither an opening nor an answer begins with these bytes.
    @raise punchd.errors.IncompatibleVersions: when one of another version does.
    """
    if received[: len(_MAGIC)] != _MAGIC[: len(received)]:
        raise ProtocolViolation(f"this is not the {_WHAT}")
    if len(received) > _VERSION_AT:
        checkVersion(_WHAT, received[_VERSION_AT], RELAY_VERSION)
