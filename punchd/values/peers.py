"""
Who a peer is.
"""

from __future__ import annotations

import re
from hashlib import sha256

from attrs import frozen
from twisted.internet.interfaces import IAddress
from zope.interface import implementer

from punchd.errors import ConfigurationError

#: A peer's or service's name: also usable as a DNS label's beginning, a file name, a command's
#: word.
NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62})\Z")


def checkedName(name: str, what: str = "name") -> str:
    """
    Return C{name} if it may be the name of a peer or a service.

    @param what: what the name is of, for the error's text.
    @raise ConfigurationError: otherwise.
    """
    if NAME.match(name) is None:
        raise ConfigurationError(
            f"{name[:80]!r} cannot be a {what}: use 1 to 63 letters, digits, '.', '_' or '-', "
            "beginning with a letter or digit"
        )
    return name


@frozen(order=True)
class PeerID:
    """
    A peer's identity: the SHA-256 of its public key (SubjectPublicKeyInfo, DER).

    @ivar digest: 32 bytes.
    """

    digest: bytes

    @classmethod
    def ofPublicKey(cls, der: bytes) -> PeerID:
        """
        @param der: the key's SubjectPublicKeyInfo.
        """
        return cls(sha256(der).digest())

    @classmethod
    def parse(cls, text: str) -> PeerID:
        """
        @param text: 64 hexadecimal digits, in either case.
        @raise ConfigurationError: for anything else.
        """
        if re.fullmatch(r"[0-9A-Fa-f]{64}", text.strip()) is None:
            raise ConfigurationError(
                f"{text[:80]!r} is no peer ID: expected the 64 hexadecimal digits that "
                "'punchd id' prints"
            )
        return cls(bytes.fromhex(text.strip()))

    def __str__(self) -> str:
        return self.digest.hex()

    @property
    def short(self) -> str:
        """
        Enough of it to tell peers apart in a log.
        """
        return self.digest.hex()[:12]


@frozen
class Pin:
    """
    A peer ID that is trusted under a name.
    """

    name: str
    peerID: PeerID


@implementer(IAddress)
@frozen
class PeerAddress:
    """
    Where a stream leads: what C{getPeer} says of the peer at its other end, and C{getHost} of this
    one. Its key has proven who it is; where in the Internet it is does not matter, and may change.

    @ivar name: what the peer is pinned under here; of this peer, what it calls itself.
    """

    name: str
    peerID: PeerID

    def __str__(self) -> str:
        return f"{self.name} ({self.peerID.short}…)"

    @classmethod
    def fromJSON(cls, table: dict[str, str]) -> PeerAddress:
        """
        The inverse of L{toJSON}.
        """
        return cls(table["name"], PeerID.parse(table["id"]))

    def toJSON(self) -> dict[str, str]:
        """
        As it goes over the control socket.
        """
        return {"name": self.name, "id": str(self.peerID)}
