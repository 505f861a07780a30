"""
What is said on a master connection: AMP commands, and the table of errors.
"""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import frozen
from twisted.protocols import amp

from punchd.errors import (
    IncompatibleVersions,
    Overlapping,
    ProtocolViolation,
    PunchdError,
    Refused,
    UnknownPeer,
    Unreachable,
)
from punchd.values.parties import Offer
from punchd.wire.arguments import (
    ID,
    Blob,
    Few,
    IDs,
    Line,
    MappingKind,
    Name,
    StrategyVersion,
    Where,
)
from punchd.wire.observing import TOKEN_LENGTH
from punchd.wire.preamble import SESSION_LENGTH

#: How many host candidates a peer may name, how many strategies, how many tokens it gets at a time.
MOST_HOSTS = 8
MOST_STRATEGIES = 32
MOST_TOKENS = 8

#: The longest message between the two halves of a strategy.
MOST_BODY = 1024

#: Every error that crosses a master connection, with its code.
ERRORS: dict[type[Exception], bytes] = {
    ProtocolViolation: b"PROTOCOL_VIOLATION",
    IncompatibleVersions: b"INCOMPATIBLE_VERSIONS",
    UnknownPeer: b"UNKNOWN_PEER",
    Overlapping: b"OVERLAPPING",
    Refused: b"REFUSED",
    Unreachable: b"UNREACHABLE",
}

#: After these errors there is nothing left to say: the connection closes.
FATAL: dict[type[Exception], bytes] = {
    IncompatibleVersions: b"INCOMPATIBLE_VERSIONS",
    ProtocolViolation: b"PROTOCOL_VIOLATION",
}

_OFFER: list[tuple[bytes, amp.Argument]] = [
    (b"hosts", Few(Where(), MOST_HOSTS)),
    (b"mapping", MappingKind(optional=True)),
    (b"strategies", Few(StrategyVersion(), MOST_STRATEGIES)),
]


def offerArguments(offer: Offer) -> dict[str, Any]:
    """
    An offer as the arguments of a command.
    """
    return {
        "hosts": list(offer.hosts),
        "mapping": offer.mapping,
        "strategies": list(offer.strategies),
    }


def offerFrom(arguments: dict[str, Any]) -> Offer:
    """
    The inverse of L{offerArguments}; other arguments are ignored.
    """
    return Offer(
        mapping=arguments["mapping"],
        hosts=tuple(arguments["hosts"]),
        strategies=tuple(arguments["strategies"]),
    )


@frozen
class Assist:
    """
    Where an assist service listens.

    @ivar host: C{None} where it is the host of the master connection.
    """

    host: str | None
    port: int


class _AssistArgument(amp.Argument):
    def toString(self, inObject: Assist) -> bytes:
        return f"{inObject.host or ''}|{inObject.port}".encode("ascii")

    def fromString(self, inString: bytes) -> Assist:
        host, bar, port = inString.partition(b"|")
        isPort = port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536
        if not bar or not isPort or len(host) > 255:
            raise ProtocolViolation(f"a bad assist endpoint: {inString[:80]!r}")
        return Assist(host.decode("ascii", "replace") or None, int(port))


class _Command(amp.Command):
    errors: ClassVar[dict[type[Exception], bytes]] = ERRORS


class Hello(_Command):
    """
    Peer to server, first: who one is.

    Answered when the name is this key's. The server then knows the peer until the connection ends.
    """

    commandName = b"hello"
    arguments: ClassVar = [
        (b"version", amp.Integer()),
        (b"oldest", amp.Integer()),
        (b"name", Name()),
        (b"accepts", IDs()),
        *_OFFER,
    ]
    response: ClassVar = [
        (b"version", amp.Integer()),
        (b"observed", Where()),
        (b"assists", Few(_AssistArgument(), 8)),
    ]


class Update(_Command):
    """
    Peer to server: the offer, or whom the peer accepts, has changed.
    """

    commandName = b"update"
    arguments: ClassVar = [(b"accepts", IDs()), *_OFFER]


class Tokens(_Command):
    """
    Peer to server: tokens for the assist service, please.
    """

    commandName = b"tokens"
    arguments: ClassVar = [(b"count", amp.Integer())]
    response: ClassVar = [(b"tokens", Few(Blob(TOKEN_LENGTH), MOST_TOKENS))]


class Introduce(_Command):
    """
    Peer to server: introduce me to that peer. The answer is the caller's GO.

    @cvar arguments: C{token} names a port that the server observed through the assist service;
        without it, the port is the master connection's own.
    """

    commandName = b"introduce"
    arguments: ClassVar = [
        (b"peer", ID()),
        (b"token", Blob(TOKEN_LENGTH, optional=True)),
        (b"hosts", Few(Where(), MOST_HOSTS)),
        (b"strategies", Few(StrategyVersion(), MOST_STRATEGIES)),
    ]
    response: ClassVar = [
        (b"session", Blob(SESSION_LENGTH)),
        (b"own", Where()),
        (b"reflexive", Where()),
        *_OFFER,
    ]


class Introduction(_Command):
    """
    Server to peer: that peer calls you. This is the callee's GO.
    """

    commandName = b"introduction"
    arguments: ClassVar = [
        (b"session", Blob(SESSION_LENGTH)),
        (b"caller", ID()),
        (b"own", Where()),
        (b"reflexive", Where()),
        *_OFFER,
    ]


class Tell(_Command):
    """
    Peer to server: pass this to the other half of a strategy.
    """

    commandName = b"tell"
    arguments: ClassVar = [
        (b"session", Blob(SESSION_LENGTH)),
        (b"strategy", Name()),
        (b"body", Blob(MOST_BODY, exactly=False)),
        (b"token", Blob(TOKEN_LENGTH, optional=True)),
    ]


class Told(_Command):
    """
    Server to peer: what the other half says, with the address observed for the token it named.
    """

    commandName = b"told"
    arguments: ClassVar = [
        (b"session", Blob(SESSION_LENGTH)),
        (b"strategy", Name()),
        (b"body", Blob(MOST_BODY, exactly=False)),
        (b"observed", Where(optional=True)),
    ]


class Report(_Command):
    """
    Caller to server: the introduction is over.

    @cvar arguments: C{strategy} is missing when no strategy won.
    """

    commandName = b"report"
    arguments: ClassVar = [
        (b"session", Blob(SESSION_LENGTH)),
        (b"strategy", Name(optional=True)),
        (b"seconds", amp.Float()),
    ]


class Ping(_Command):
    """
    Both ways: are you there?
    """

    commandName = b"ping"


class Farewell(_Command):
    """
    Server to peer: this connection ends now, and why.
    """

    commandName = b"farewell"
    arguments: ClassVar = [(b"reason", Line())]
    requiresAnswer = False


def errorFrom(error: Exception) -> PunchdError:
    """
    What went wrong with a command, as one of punchd's errors.
    """
    if isinstance(error, PunchdError):
        return error
    if isinstance(error, amp.RemoteAmpError):
        return Refused(f"the other end could not do it: {error.description}")
    return Unreachable(f"the connection ended: {str(error) or type(error).__name__}")
