"""
Routers in name only, for what asks them: datagrams that go to a test, and ways of asking that say
what a test wants.
"""

from __future__ import annotations

from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from punchd.errors import PunchdError, Refused
from punchd.interfaces import IPortMapper
from punchd.nat.gateway import Gateway
from punchd.values.addresses import makeAddress
from punchd.values.leases import Lease, RouterFacts

GATEWAY = Gateway("192.168.1.1", "192.168.1.10")
OUTSIDE = "203.0.113.7"


@define(eq=False)
class Port:
    """
    A UDP port, and all that was sent from it.
    """

    protocol: Any
    sent: list[tuple[bytes, tuple[str, int]]] = field(factory=list)
    connected: tuple[str, int] | None = None
    isClosed: bool = False

    def connect(self, host: str, port: int) -> None:
        self.connected = (host, port)

    def write(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.sent.append((datagram, addr))

    def stopListening(self) -> None:
        self.isClosed = True

    def answer(self, datagram: bytes, addr: tuple[str, int] | None = None) -> None:
        """
        Something comes, by default from where the question went.
        """
        self.protocol.datagramReceived(datagram, addr or self.sent[-1][1])


class Datagrams(Clock):
    """
    Gives UDP ports to a test, with time that stands still.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ports: list[Port] = []
        self.problem: Exception | None = None

    def listenUDP(self, port: int, protocol: Any) -> None:
        if self.problem is not None:
            raise self.problem
        self.ports.append(Port(protocol))
        protocol.makeConnection(self.ports[-1])

    @property
    def last(self) -> Port:
        return self.ports[-1]


@implementer(IPortMapper)
@define(eq=False)
class Mapper:
    """
    A way of asking a router that says what it is told to.

    @ivar problem: instead of any answer.
    @ivar taken: ports of others.
    @ivar refused: ports that it lends to nobody.
    @ivar silent: whether it never answers.
    """

    name: str
    problem: Exception | None = None
    external: str = OUTSIDE
    lifetime: float = 7200.0
    silent: bool = False
    taken: set[int] = field(factory=set)
    lent: dict[int, Lease] = field(factory=dict)
    asked: list[tuple[Any, ...]] = field(factory=list)
    waiting: list[Deferred[Any]] = field(factory=list)
    refusal: PunchdError | None = None
    refused: set[int] = field(factory=set)
    next: int = 40000
    chooses: bool = True
    lie: int = 0

    def _answer(self, value: Any) -> Any:
        if self.silent:
            self.waiting.append(Deferred())
            return self.waiting[-1]
        return succeed(value) if self.problem is None else fail(self.problem)

    def ask(self) -> Deferred[RouterFacts]:
        self.asked.append(("ask",))
        answered: Deferred[RouterFacts] = self._answer(RouterFacts(self.external))
        return answered

    def lease(self, internal: int, external: int, lifetime: float) -> Deferred[Lease]:
        self.asked.append(("lease", internal, external))
        if self.refusal is not None:
            return fail(self.refusal)
        if external in self.refused:
            return fail(Refused("not that one"))
        if external in self.taken:
            if not self.chooses:
                from punchd.errors import PortTaken

                return fail(PortTaken("that port is another's"))
            external = 0
        self.next += not external
        lease = Lease(
            self.name,
            self.lie or internal,
            makeAddress(self.external, external or self.next),
            self.lifetime,
        )
        answered: Deferred[Lease] = self._answer(lease)
        if not self.silent and self.problem is None:
            self.lent[internal] = lease
        return answered

    def holds(self, lease: Lease) -> Deferred[bool]:
        self.asked.append(("holds", lease.internal))
        answered: Deferred[bool] = self._answer(self.lent.get(lease.internal) == lease)
        return answered

    def release(self, lease: Lease) -> Deferred[None]:
        self.asked.append(("release", lease.internal))
        self.lent.pop(lease.internal, None)
        answered: Deferred[None] = self._answer(None)
        return answered

    def count(self, what: str) -> int:
        """
        How often it was asked that.
        """
        return sum(one[0] == what for one in self.asked)
