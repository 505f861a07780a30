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
from punchd.values.nat import Allocation, Filtering, Mapping, NatBehaviour, Unsolicited
from punchd.values.parties import Offer
from punchd.values.probes import Answer
from punchd.wire.arguments import (
    ID,
    Blob,
    Few,
    Flag,
    IDs,
    Line,
    Name,
    StrategyVersion,
    Where,
    Word,
)
from punchd.wire.limiting import LIMIT
from punchd.wire.listing import LISTING
from punchd.wire.observing import TOKEN_LENGTH
from punchd.wire.preamble import SESSION_LENGTH
from punchd.wire.proving import SECRET_LENGTH
from punchd.wire.relaying import TOKEN_LENGTH as RELAY_TOKEN_LENGTH

#: How many host candidates a peer may name, how many leased addresses, how many strategies, and how
#: many tokens it gets at a time.
MOST_HOSTS = 8
MOST_MAPPED = 4
MOST_STRATEGIES = 32
MOST_TOKENS = 8

#: How many assist services a server names.
MOST_ASSISTS = 8

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


def _offer(prefix: bytes = b"") -> list[tuple[bytes, amp.Argument]]:
    return [
        (prefix + b"hosts", Few(Where(), MOST_HOSTS)),
        (prefix + b"mapping", Word(Mapping, optional=True)),
        (prefix + b"filtering", Word(Filtering, optional=True)),
        (prefix + b"unsolicited", Word(Unsolicited, optional=True)),
        (prefix + b"allocation", Word(Allocation, optional=True)),
        (prefix + b"delta", amp.Integer(optional=True)),
        (prefix + b"oneaddress", Flag(optional=True)),
        (prefix + b"strategies", Few(StrategyVersion(), MOST_STRATEGIES)),
        (prefix + b"mapped", Few(Where(), MOST_MAPPED, optional=True)),
        (prefix + b"takesrelay", Flag(optional=True)),
    ]


# What a peer says of itself; its IPv6 candidate by the token of a port that the server observed.
_OFFER = [*_offer(), (b"ipv6token", Blob(TOKEN_LENGTH, optional=True))]

#: What stands before the arguments of a peer's own offer, as it is told to the other side: both
#: plan from the same values.
OWN = "own"

# What a peer is told of the other side, and of itself.
_OFFERS = [
    *_offer(),
    (b"ipv6", Where(optional=True)),
    *_offer(OWN.encode("ascii")),
    (b"ownipv6", Where(optional=True)),
]

#: The farthest that a counting NAT steps; more is no counting.
MOST_DELTA = 256


def offerArguments(offer: Offer, prefix: str = "") -> dict[str, Any]:
    """
    An offer as the arguments of a command, but for its IPv6 candidate.
    """
    nat = offer.nat
    arguments = {
        "hosts": list(offer.hosts),
        "mapping": nat.mapping,
        "filtering": nat.filtering,
        "unsolicited": nat.unsolicited,
        "allocation": nat.allocation,
        "delta": nat.delta or None,
        "oneaddress": nat.fromOneAddress or None,
        "strategies": list(offer.strategies),
        "mapped": list(offer.mapped) or None,
        "takesrelay": offer.takesRelay or None,
    }
    return {prefix + name: value for name, value in arguments.items()}


def toldArguments(offer: Offer, prefix: str = "") -> dict[str, Any]:
    """
    An offer as a server tells it.
    """
    return {**offerArguments(offer, prefix), f"{prefix}ipv6": offer.ipv6}


def offerFrom(arguments: dict[str, Any], prefix: str = "") -> Offer:
    """
    The inverse of both; other arguments are ignored.
    """

    def said(name: str) -> Any:
        return arguments.get(prefix + name)

    delta = said("delta") or 0
    return Offer(
        nat=NatBehaviour(
            mapping=said("mapping"),
            filtering=said("filtering"),
            unsolicited=said("unsolicited"),
            allocation=said("allocation"),
            delta=delta if abs(delta) <= MOST_DELTA else 0,
            fromOneAddress=bool(said("oneaddress")),
        ),
        hosts=tuple(said("hosts")),
        strategies=tuple(said("strategies")),
        mapped=tuple(said("mapped") or ()),
        ipv6=said("ipv6"),
        takesRelay=bool(said("takesrelay")),
    )


@frozen
class Assist:
    """
    Where an assist service listens.

    @ivar host: C{None} where it is the host of the master connection.
    """

    host: str | None
    port: int


@frozen
class Relay:
    """
    Where the relay listens.

    @ivar host: C{None} where it is the host of the master connection.
    """

    host: str | None
    port: int


class _Place(amp.Argument):
    """
    An L{Assist} or a L{Relay}.
    """

    def __init__(self, kind: type[Assist | Relay], optional: bool = False) -> None:
        super().__init__(optional=optional)
        self.kind = kind

    def toString(self, inObject: Assist | Relay) -> bytes:
        return f"{inObject.host or ''}|{inObject.port}".encode("ascii")

    def fromString(self, inString: bytes) -> Assist | Relay:
        host, bar, port = inString.partition(b"|")
        isPort = port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536
        if not bar or not isPort or len(host) > 255:
            what = self.kind.__name__.lower()
            raise ProtocolViolation(f"a bad {what} endpoint: {inString[:80]!r}")
        return self.kind(host.decode("ascii", "replace") or None, int(port))


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
        *LISTING,
    ]
    response: ClassVar = [
        (b"version", amp.Integer()),
        (b"observed", Where()),
        (b"assists", Few(_Place(Assist), MOST_ASSISTS)),
        (b"relay", _Place(Relay, optional=True)),
        (b"zone", Line(optional=True)),
        (b"ttl", amp.Integer(optional=True)),
    ]


class Update(_Command):
    """
    Peer to server: the offer, whom the peer accepts, or what shall be in the DNS has changed.
    """

    commandName = b"update"
    arguments: ClassVar = [(b"accepts", IDs()), *_OFFER, *LISTING]


class Tokens(_Command):
    """
    Peer to server: tokens for the assist service, please.
    """

    commandName = b"tokens"
    arguments: ClassVar = [(b"count", amp.Integer())]
    response: ClassVar = [(b"tokens", Few(Blob(TOKEN_LENGTH), MOST_TOKENS))]


class DialBack(_Command):
    """
    Peer to server: dial the port of mine that has shown this token, from another port of yours, and
    say what came back.

    @cvar arguments: C{source} is the assist service from whose host to dial, as its place in the
        list of the welcome.
    """

    commandName = b"dialback"
    arguments: ClassVar = [(b"token", Blob(TOKEN_LENGTH)), (b"source", amp.Integer())]
    response: ClassVar = [(b"answer", Word(Answer, optional=True))]


class Prove(_Command):
    """
    Peer to server: this port of the address that you see me at is leased to me. Dial it; who
    listens there knows the secret.
    """

    commandName = b"prove"
    arguments: ClassVar = [(b"port", amp.Integer()), (b"secret", Blob(SECRET_LENGTH))]
    response: ClassVar = [(b"proven", Flag())]


class Introduce(_Command):
    """
    Peer to server: introduce me to that peer. The answer is the caller's GO.

    @cvar arguments: C{token} names a port that the server observed through the assist service;
        without it, the port is the master connection's own.
    @cvar response: C{relay} is this side's token for the relay; missing where there is no relay, or
        a side takes no relayed path, or, as C{relaylimit} says then, one of them may have none for
        the next C{relaywait} seconds.
    """

    commandName = b"introduce"
    arguments: ClassVar = [
        (b"peer", ID()),
        (b"token", Blob(TOKEN_LENGTH, optional=True)),
        *_OFFER,
    ]
    response: ClassVar = [
        (b"session", Blob(SESSION_LENGTH)),
        (b"own", Where()),
        (b"reflexive", Where()),
        (b"relay", Blob(RELAY_TOKEN_LENGTH, optional=True)),
        *LIMIT,
        *_OFFERS,
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
        (b"relay", Blob(RELAY_TOKEN_LENGTH, optional=True)),
        *LIMIT,
        *_OFFERS,
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


class RelayNote(_Command):
    """
    Server to peer: why the relayed path of that introduction is slowed down, or C{ends} now.
    """

    commandName = b"relaynote"
    arguments: ClassVar = [
        (b"session", Blob(SESSION_LENGTH)),
        (b"reason", Line()),
        (b"ends", Flag()),
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
