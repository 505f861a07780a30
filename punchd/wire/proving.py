"""
How the server makes sure that it is this very peer who is to be found at an address that the peer's
router has leased to it.

The peer gives the server a secret, on the master connection. The server dials the address and sends
a challenge that only who knows the secret can have made; who listens there answers it. Neither
learns anything that it could use anywhere else, and who listens there by chance says nothing that
would do.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from attrs import frozen

from punchd.errors import ProtocolViolation
from punchd.wire.versions import PROOF_VERSION, checkVersion

_MAGIC = b"PUNCHC"

#: Bytes in a secret, in a nonce, and in a seal.
SECRET_LENGTH = 32
NONCE_LENGTH = 16
SEAL_LENGTH = 32

#: Bytes in a challenge. Its answer is one seal.
CHALLENGE_LENGTH = len(_MAGIC) + 2 + NONCE_LENGTH + SEAL_LENGTH


@frozen
class Challenge:
    """
    @ivar nonce: random bytes.
    @ivar seal: proves that its sender knows the secret.
    """

    nonce: bytes
    seal: bytes

    @classmethod
    def make(cls, secret: bytes, nonce: bytes) -> Challenge:
        """
        The challenge of who knows C{secret}.
        """
        return cls(nonce, _seal(secret, b"challenge", nonce))

    def pack(self) -> bytes:
        """
        The challenge's L{CHALLENGE_LENGTH} bytes.
        """
        return _MAGIC + bytes([PROOF_VERSION, 0]) + self.nonce + self.seal

    @classmethod
    def unpack(cls, packed: bytes) -> Challenge:
        """
        @param packed: exactly L{CHALLENGE_LENGTH} bytes.
        @raise ProtocolViolation: when this is no challenge.
        @raise punchd.errors.IncompatibleVersions: when it is one of another version.
        """
        if not mayBegin(packed):
            raise ProtocolViolation("this is no challenge")
        if len(packed) != CHALLENGE_LENGTH:
            raise ProtocolViolation(f"a challenge has {CHALLENGE_LENGTH} bytes, not {len(packed)}")
        checkVersion("challenge", packed[6], PROOF_VERSION)
        return cls(packed[8 : 8 + NONCE_LENGTH], packed[8 + NONCE_LENGTH :])

    def answer(self, secrets: Iterable[bytes]) -> bytes | None:
        """
        The answer by the one of C{secrets} that the challenge was made with, if there is one.
        """
        for secret in secrets:
            if hmac.compare_digest(self.seal, _seal(secret, b"challenge", self.nonce)):
                return _seal(secret, b"answer", self.nonce)
        return None

    def isAnswered(self, answer: bytes, secret: bytes) -> bool:
        """
        Whether C{answer} comes from who knows C{secret}.
        """
        return hmac.compare_digest(answer, _seal(secret, b"answer", self.nonce))


def mayBegin(received: bytes) -> bool:
    """
    Whether a challenge may begin with these bytes.
    """
    return received[: len(_MAGIC)] == _MAGIC[: len(received)]


def _seal(secret: bytes, use: bytes, nonce: bytes) -> bytes:
    return hmac.digest(secret, use + nonce, "sha256")
