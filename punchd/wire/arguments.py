"""
AMP arguments for punchd's values. Each bounds what it accepts.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from typing import Any

from twisted.protocols import amp

from punchd.errors import ConfigurationError, ProtocolViolation
from punchd.values.addresses import Address, packAddress, unpackAddress
from punchd.values.peers import PeerID, checkedName

_DIGEST_LENGTH = 32


class Name(amp.Argument):
    """
    A peer's, service's or strategy's name.
    """

    def toString(self, inObject: str) -> bytes:
        return inObject.encode("ascii")

    def fromString(self, inString: bytes) -> str:
        try:
            return checkedName(inString.decode("ascii"))
        except (ConfigurationError, UnicodeDecodeError) as error:
            raise ProtocolViolation(f"a bad name: {error}") from None


class Line(amp.Argument):
    """
    Text for people: at most 400 characters, without control characters.
    """

    def toString(self, inObject: str) -> bytes:
        return inObject[:400].encode("utf-8", "replace")

    def fromString(self, inString: bytes) -> str:
        text = inString.decode("utf-8", "replace")[:400]
        return "".join(character if character.isprintable() else "?" for character in text)


class Flag(amp.Boolean):
    """
    Yes or no.
    """

    def fromString(self, inString: bytes) -> bool:
        try:
            return bool(super().fromString(inString))
        except TypeError:
            raise ProtocolViolation(f"neither True nor False: {inString[:80]!r}") from None


class Blob(amp.Argument):
    """
    Bytes, of exactly or at most a given length.
    """

    def __init__(self, length: int, exactly: bool = True, optional: bool = False) -> None:
        super().__init__(optional=optional)
        self.length = length
        self.exactly = exactly

    def toString(self, inObject: bytes) -> bytes:
        return inObject

    def fromString(self, inString: bytes) -> bytes:
        if len(inString) > self.length or (self.exactly and len(inString) != self.length):
            raise ProtocolViolation(f"{len(inString)} bytes where {self.length} were expected")
        return inString


class ID(amp.Argument):
    """
    A L{PeerID}.
    """

    def toString(self, inObject: PeerID) -> bytes:
        return inObject.digest

    def fromString(self, inString: bytes) -> PeerID:
        if len(inString) != _DIGEST_LENGTH:
            raise ProtocolViolation(f"a peer ID of {len(inString)} bytes")
        return PeerID(inString)


class IDs(amp.Argument):
    """
    Up to L{IDs.MOST} L{PeerID}s.
    """

    MOST = 1024

    def toString(self, inObject: frozenset[PeerID]) -> bytes:
        if len(inObject) > self.MOST:
            raise ConfigurationError(f"a server takes at most {self.MOST} accepted peers")
        return b"".join(sorted(one.digest for one in inObject))

    def fromString(self, inString: bytes) -> frozenset[PeerID]:
        if len(inString) % _DIGEST_LENGTH or len(inString) > self.MOST * _DIGEST_LENGTH:
            raise ProtocolViolation(f"a list of peer IDs of {len(inString)} bytes")
        return frozenset(
            PeerID(inString[at : at + _DIGEST_LENGTH])
            for at in range(0, len(inString), _DIGEST_LENGTH)
        )


class Where(amp.Argument):
    """
    An address, packed.
    """

    def toString(self, inObject: Address) -> bytes:
        return packAddress(inObject)

    def fromString(self, inString: bytes) -> Address:
        try:
            return unpackAddress(inString)
        except ValueError as error:
            raise ProtocolViolation(str(error)) from None


class Few(amp.ListOf):
    """
    A list of at most so many elements.
    """

    def __init__(self, elementType: amp.Argument, most: int, optional: bool = False) -> None:
        super().__init__(elementType, optional=optional)
        self.most = most

    def fromString(self, inString: bytes) -> list[Any]:
        found: list[Any] = super().fromString(inString)
        if len(found) > self.most:
            raise ProtocolViolation(f"{len(found)} elements where {self.most} are allowed")
        return found


class Word(amp.Argument):
    """
    A member of an enum, by its value; a word that is not known is as good as none.
    """

    def __init__(self, words: type[Enum], optional: bool = False) -> None:
        super().__init__(optional=optional)
        self._known = {member.value.encode("ascii"): member for member in words}

    def toString(self, inObject: Enum) -> bytes:
        word: str = inObject.value
        return word.encode("ascii")

    def fromString(self, inString: bytes) -> Enum | None:
        return self._known.get(inString)


class StrategyVersion(amp.Argument):
    """
    A strategy's name and version, as C{name/version}.
    """

    def toString(self, inObject: tuple[str, int]) -> bytes:
        return f"{inObject[0]}/{inObject[1]}".encode("ascii")

    def fromString(self, inString: bytes) -> tuple[str, int]:
        return _strategyVersion(inString)


# A server hears the same few from all of its peers, and keeps them for each.
@lru_cache(maxsize=256)
def _strategyVersion(packed: bytes) -> tuple[str, int]:
    name, slash, version = packed.partition(b"/")
    if not slash or not version.isdigit() or len(version) > 4:
        raise ProtocolViolation(f"a bad strategy: {packed[:80]!r}")
    return Name().fromString(name), int(version)


class ServicePort(amp.Argument):
    """
    A service and a port of it, as C{name/port}.
    """

    def toString(self, inObject: tuple[str, int]) -> bytes:
        return f"{inObject[0]}/{inObject[1]}".encode("ascii")

    def fromString(self, inString: bytes) -> tuple[str, int]:
        service, slash, port = inString.partition(b"/")
        isPort = port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536
        if not slash or not isPort:
            raise ProtocolViolation(f"a bad service and port: {inString[:80]!r}")
        return Name().fromString(service), int(port)
