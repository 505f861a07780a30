"""
A connection to a server that is none, for those who open and answer.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any, cast

from attrs import define, evolve, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from punchd.identity.folder import StateFolder
from punchd.identity.pins import Pins
from punchd.interfaces import IObserver, IStrategy
from punchd.net.held import HeldPort
from punchd.peer.experience import Experience
from punchd.peer.master import MasterClient
from punchd.peer.punches import Punches
from punchd.peer.usage import Usage
from punchd.values.addresses import Address, makeAddress
from punchd.values.happenings import Happening
from punchd.values.joining import JoinAddress
from punchd.values.parties import LocalAddressPolicy, Offer
from punchd.values.peers import PeerID
from tests.unit.link.pairs import ALICE, CONTEXTS
from tests.unit.net.memory import HERE
from tests.unit.net.ports import FakePort
from tests.unit.peer.punches import FakeServer


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


@define(eq=False)
class FakeCandidate:
    """
    A client's IPv6 ports: none, unless the test gives some.
    """

    port: HeldPort | None = None
    others: list[Deferred[HeldPort | None]] = field(factory=list)

    def fresh(self) -> Deferred[HeldPort | None]:
        return self.others.pop(0) if self.others else succeed(None)


class FakeClient(FakeServer):
    """
    What L{MasterClient} is to others.

    @ivar asked: commands sent, with the answers that the test gives.
    @ivar otherPunches: under way from our port, besides those of the test.
    """

    def __init__(self, clock: Clock, host: str = "example.org") -> None:
        super().__init__(clock)
        self.join = JoinAddress(host)
        self.port = FakePort(clock)
        self.ipv6 = FakeCandidate()
        self.usage = Usage(clock)
        self.otherPunches = ExitStack()
        self.observed: Address = HERE
        self.hosts: tuple[Address, ...] = ()
        self.isConnected = True
        self.problem: str | None = None
        self.asked: list[tuple[Any, dict[str, Any], Deferred[dict[str, Any]]]] = []
        self.reports: list[tuple[bytes, str | None]] = []

    def punchAlready(self, peerID: PeerID) -> None:
        """
        There is another punch toward that peer.
        """
        self.otherPunches.enter_context(self.usage.toward(peerID))

    @property
    def policy(self) -> LocalAddressPolicy:
        return LocalAddressPolicy(self.observed)

    def offerFor(self, offer: Offer, port: HeldPort) -> Offer:
        return evolve(offer, hosts=self.hosts)

    def ask(self, command: Any, **arguments: Any) -> Deferred[dict[str, Any]]:
        self.asked.append((command, arguments, Deferred()))
        return self.asked[-1][2]

    def report(self, session: bytes, strategy: str | None, seconds: float) -> None:
        self.reports.append((session, strategy))

    @property
    def asClient(self) -> MasterClient:
        return cast(MasterClient, self)


def makePunches(
    clock: Clock,
    strategies: Mapping[str, IStrategy],
    watcher: Watcher,
    folder: Path,
    who: str = "alice",
) -> Punches:
    """
    The introductions of a peer that has Alice's key.
    """
    return Punches(
        clock,
        Random(1),
        lambda length: b"n" * length,
        CONTEXTS[ALICE.peerID],
        dict(strategies),
        watcher,
        who,
        Offer(strategies=tuple((name, 1) for name in strategies)),
        Experience.inFolder(StateFolder.at(str(folder)), clock, clock.seconds),
    )


def makePins(folder: Path, **pinned: PeerID) -> Pins:
    """
    Pins in a folder of the test's.
    """
    pins = Pins.inFolder(StateFolder.at(str(folder)))
    for name, peerID in pinned.items():
        pins.trust(name, peerID)
    return pins


PUBLIC = makeAddress("203.0.113.9", 9000)
