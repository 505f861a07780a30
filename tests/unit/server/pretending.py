"""
Peers that exist only in memory, for the tests of the server.
"""

from typing import Any

from attrs import define, field
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent
from twisted.protocols import amp
from zope.interface import implementer

from punchd.interfaces import IObserver
from punchd.server.sessions import Session
from punchd.values.addresses import Address
from punchd.values.happenings import Happening
from punchd.values.nat import UNKNOWN
from punchd.values.parties import Offer
from punchd.values.peers import PeerID
from punchd.values.probes import Finding


def peerID(number: int) -> PeerID:
    """
    One of as many peer IDs as are needed.
    """
    return PeerID(bytes([number]) * 32)


def public(number: int, port: int = 5000) -> Address:
    """
    One of as many public addresses as are needed (RFC 5737).
    """
    return IPv4Address("TCP", f"198.51.100.{number}", port)


def private(number: int, port: int = 5000) -> Address:
    return IPv4Address("TCP", f"192.168.1.{number}", port)


@define(eq=False)
class PretendedLine:
    """
    A master connection that remembers what was sent and at what time, and answers when told.
    """

    clock: Clock
    sent: list[tuple[float, type[amp.Command], dict[str, Any]]] = field(factory=list)
    answers: list[Deferred[Any]] = field(factory=list)
    closed: list[str] = field(factory=list)
    isLoggedIn: bool = False
    here: str = "203.0.113.1"

    def callRemote(self, commandType: type[amp.Command], **arguments: Any) -> Any:
        self.sent.append((self.clock.seconds(), commandType, arguments))
        if not commandType.requiresAnswer:
            return None
        answer: Deferred[Any] = Deferred()
        self.answers.append(answer)
        return answer

    def loggedIn(self) -> None:
        self.isLoggedIn = True

    def localHost(self) -> str:
        return self.here

    def close(self, reason: str) -> None:
        self.closed.append(reason)

    def heard(self, commandType: type[amp.Command]) -> list[dict[str, Any]]:
        """
        The arguments of each command of this type that was sent.
        """
        return [arguments for _, sent, arguments in self.sent if sent is commandType]


@implementer(IObserver)
@define
class Watcher:
    """
    Remembers what happened.
    """

    seen: list[Happening] = field(factory=list)

    def happened(self, happening: Happening) -> None:
        self.seen.append(happening)

    @property
    def steps(self) -> list[str]:
        return [happening.step for happening in self.seen]


@implementer(ILogObserver)
@define
class Journal:
    """
    Remembers what was logged.
    """

    events: list[LogEvent] = field(factory=list)

    def __call__(self, event: LogEvent) -> None:
        self.events.append(event)

    @property
    def texts(self) -> list[str]:
        """
        The lines about what strangers did wrong.
        """
        return [event["text"] for event in self.events]


@define
class Counter:
    """
    Entropy that is none: 1, 2, 3…
    """

    last: int = 0

    def __call__(self, length: int) -> bytes:
        self.last += 1
        return self.last.to_bytes(length, "big")


@define
class PretendedProber:
    """
    Sends no SYNs; what came back is told by the test.
    """

    probes: list[tuple[Address, str]] = field(factory=list)
    found: list[Deferred[Finding]] = field(factory=list)

    def probe(
        self, remote: Address, *, patience: float, here: str = "", hops: int | None = None
    ) -> Deferred[Finding]:
        self.probes.append((remote, here))
        self.found.append(Deferred())
        return self.found[-1]


def makeSession(
    clock: Clock,
    number: int,
    *,
    name: str = "",
    accepts: frozenset[PeerID] = frozenset(),
    hosts: tuple[Address, ...] = (),
    oneWay: float | None = None,
    observed: Address | None = None,
) -> Session:
    """
    The session of a peer that has just logged in.
    """
    session = Session(
        peerID(number),
        name or f"peer{number}",
        observed or public(number),
        PretendedLine(clock),
        Offer(UNKNOWN, hosts, (("lan", 1),)),
        accepts,
        clock.seconds(),
    )
    if oneWay is not None:
        session.pinged(0.0)
        session.ponged(2 * oneWay)
    return session


def lineOf(session: Session) -> PretendedLine:
    assert isinstance(session.line, PretendedLine)
    return session.line
