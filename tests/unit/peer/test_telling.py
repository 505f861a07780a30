"""
Tests for L{punchd.peer.telling}.
"""

from collections.abc import Callable
from typing import Any, cast

import pytest
from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from punchd.hooks.facts import Facts, Subject
from punchd.peer.conversation import Welcome
from punchd.peer.publishing import Publication
from punchd.peer.telling import GLANCE, Telling, ownFacts
from punchd.values.addresses import Address, makeAddress
from punchd.values.peers import PeerAddress, PeerID

HOST, OTHER, SIXTH = "198.51.100.1", "198.51.100.2", "2001:db8::1"
OWN = PeerAddress("bob", PeerID(bytes(32)))
ALICE = PeerID(bytes([1]) * 32)


@define
class Port:
    observed: Address


@define
class Candidate:
    port: Port | None = None


@define(eq=False)
class Client:
    welcome: Welcome | None = None
    ipv6: Candidate = field(factory=Candidate)

    def sees(self, host: str, sixth: str | None = None) -> None:
        self.welcome = Welcome(makeAddress(host, 5000), ())
        self.ipv6.port = None if sixth is None else Port(makeAddress(sixth, 6000))


@define(eq=False)
class Published:
    publication: Publication
    address: Address | None = None


@define(eq=False)
class Links:
    paths: dict[str, tuple[str | None, str | None]] = field(factory=dict)

    def toJSON(self) -> dict[str, Any]:
        return {
            name: {"id": str(ALICE), "path": path, "strategy": strategy}
            for name, (path, strategy) in self.paths.items()
        }


@define(eq=False)
class Teller:
    told: list[Facts] = field(factory=list)
    isRunning: bool = False

    def startService(self) -> None:
        self.isRunning = True

    def stopService(self) -> Deferred[None]:
        self.isRunning = False
        return succeed(None)

    def tell(self, facts: Facts) -> None:
        self.told.append(facts)


@define(eq=False)
class World:
    """
    A peer with two servers and a published service.
    """

    clock: Clock = field(factory=Clock)
    teller: Teller = field(factory=Teller)
    first: Client = field(factory=Client)
    second: Client = field(factory=Client)
    web: Published = field(factory=lambda: Published(Publication("web")))
    links: Links = field(factory=Links)
    service: Any = None

    def __attrs_post_init__(self) -> None:
        self.service = Telling(
            self.clock,
            cast(Any, self.teller),
            OWN,
            cast(Any, [self.first, self.second]),
            cast(Any, [self.web]),
            cast(Any, self.links),
        )

    def own(self) -> Facts | None:
        return ownFacts(OWN, cast(Any, [self.first, self.second]), cast(Any, [self.web]))

    def look(self) -> list[Facts]:
        """
        What is told at the next look.
        """
        self.teller.told.clear()
        self.clock.advance(GLANCE)
        return self.teller.told


@pytest.fixture
def world() -> World:
    return World()


def self(*addresses: str, services: tuple[tuple[str, int], ...] = ()) -> Facts:
    return Facts(
        Subject.SELF,
        "bob",
        OWN.peerID,
        observed=addresses[0],
        addresses=addresses,
        services=services,
    )


def test_withoutAServerNothingIsKnown(world: World) -> None:
    assert world.own() is None


def test_theAddressIsWhatTheFirstServerSeesThatIsThere(world: World) -> None:
    world.second.sees(OTHER)
    assert world.own() == self(OTHER)
    world.first.sees(HOST)
    assert world.own() == self(HOST)


def test_anIPv6AddressIsBesideAnIPv4Address(world: World) -> None:
    world.first.sees(HOST, SIXTH)
    assert world.own() == self(HOST, SIXTH)
    world.first.sees(SIXTH, "2001:db8::2")
    assert world.own() == self(SIXTH)


def test_aServiceIsPublishedWhereThePeerIs(world: World) -> None:
    world.first.sees(HOST)
    world.web.address = makeAddress(OTHER, 80)
    assert world.own() == self(HOST)
    world.web.address = makeAddress(HOST, 8080)
    assert world.own() == self(HOST, services=(("web", 8080),))


def test_allIsToldAtEachLook(world: World) -> None:
    world.service.startService()
    wasRunning = world.teller.isRunning
    assert world.look() == []
    world.first.sees(HOST)
    world.links.paths = {"alice": ("direct", "lan"), "carol": (None, None)}
    own, alice, carol = sorted(world.look(), key=lambda facts: facts.subject is Subject.LINK)
    assert own == self(HOST)
    assert alice == Facts(Subject.LINK, "alice", ALICE, path="direct", strategy="lan")
    assert carol == Facts(Subject.LINK, "carol", ALICE, isThere=False)
    world.service.stopService()
    assert (wasRunning, world.teller.isRunning) == (True, False)
    assert world.clock.getDelayedCalls() == []


def test_whoIsPinnedUnderAnotherNameIsGoneUnderTheOldOne(world: World) -> None:
    world.service.startService()
    world.links.paths = {"alice": ("relayed", None)}
    [alice] = world.look()
    world.links.paths = {"alicia": ("relayed", None)}
    assert [facts.path for facts in world.look()] == ["", "relayed"]
    assert world.teller.told[0] == alice.gone()
    assert len(world.look()) == 1
    world.service.stopService()


def test_aLookThatFailsIsNotTheLast(
    world: World, flushLoggedErrors: Callable[..., list[Failure]]
) -> None:
    world.service.startService()
    paths, world.links.paths = world.links.paths, cast(Any, None)
    world.clock.advance(GLANCE)
    assert len(flushLoggedErrors(AttributeError)) == 1
    world.links.paths = paths
    world.first.sees(HOST)
    assert len(world.look()) == 1
    world.service.stopService()
