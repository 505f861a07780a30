"""
Tests for L{punchd.peer.publishing} and L{punchd.peer.leased}: servers, routers, ports and time are
the test's.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, cast

import pytest
from attrs import define, evolve, field
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock

from punchd.errors import ConfigurationError, PunchdError, Refused, Unreachable
from punchd.nat.leases import Leases
from punchd.peer import leased
from punchd.peer.conversation import Welcome
from punchd.peer.exposure import Exposure
from punchd.peer.leased import LeasedPort, hasNatBefore
from punchd.peer.master import MasterClient
from punchd.peer.publishing import (
    Publication,
    Published,
    Publishing,
    localPort,
    portOf,
)
from punchd.values.addresses import Address, makeAddress
from punchd.values.parties import Offer
from punchd.values.peers import PeerID
from tests.unit.nat.routers import GATEWAY, OUTSIDE, Mapper

SEEN = makeAddress(OUTSIDE, 1234)
OWN = "192.168.1.10"
LOCAL = 25000


@define(eq=False)
class Listener:
    number: int
    interface: Any
    factory: Any
    isClosed: bool = False

    def getHost(self) -> Address:
        return IPv4Address("TCP", "0.0.0.0", self.number)

    def stopListening(self) -> None:
        self.isClosed = True


class Reactor(Clock):
    """
    Listens in name only.
    """

    def __init__(self) -> None:
        super().__init__()
        self.listeners: list[Listener] = []
        self.taken: set[int] = set()
        self.isFull = False

    def listenTCP(
        self, port: Any, factory: Any, backlog: int = 50, interface: str = ""
    ) -> Listener:
        if self.isFull or port in self.taken:
            raise CannotListenError(interface, port, OSError(98, "Address already in use"))
        number = port if isinstance(port, int) and port else 4000 + len(self.listeners)
        self.listeners.append(Listener(number, interface, factory))
        return self.listeners[-1]

    @property
    def open(self) -> list[Listener]:
        return [one for one in self.listeners if not one.isClosed]


class Join:
    where = "server.example:7761"


@define(eq=False)
class Client:
    """
    A server's client in name only.

    @ivar answers: whether the server finds us, in order; an error is raised.
    """

    hosts: tuple[str, ...] = (OWN,)
    welcome: Welcome | None = None
    answers: list[bool | PunchdError] = field(factory=list)
    proofs: list[Address] = field(factory=list)
    offers: list[tuple[Address, ...]] = field(factory=list)
    leased: Any = None
    port: Any = None
    join: Join = field(factory=Join)
    punches: Any = None

    def seenAt(self, address: Address | None) -> None:
        self.welcome = None if address is None else Welcome(address, ())

    def offerFor(self, offer: Offer, port: Any) -> Offer:
        return evolve(offer, hosts=tuple(makeAddress(host, 1234) for host in self.hosts))

    def prove(self, port: Any, mapped: Address) -> Deferred[bool]:
        self.proofs.append(mapped)
        if self.welcome is None or self.welcome.observed.host != mapped.host:
            return succeed(False)
        answer = self.answers.pop(0) if self.answers else True
        return fail(answer) if isinstance(answer, PunchdError) else succeed(answer)

    def update(self) -> None:
        self.offers.append(self.punches.offer.mapped)


@define(eq=False)
class Punches:
    offer: Offer = field(factory=Offer)


@define(eq=False)
class World:
    """
    A peer with one server, behind one router.
    """

    reactor: Reactor = field(factory=Reactor)
    mapper: Mapper = field(factory=lambda: Mapper("pcp"))
    client: Client = field(factory=Client)
    others: list[Client] = field(factory=list)
    punches: Punches = field(factory=Punches)
    said: list[str] = field(factory=list)
    leases: Leases = field(init=False)
    service: Any = None

    def __attrs_post_init__(self) -> None:
        for client in (self.client, *self.others):
            client.punches = self.punches
        self.leases = Leases(
            self.reactor,
            Random(1),
            lambda: GATEWAY,
            lambda gateway: [self.mapper],
            self.said.append,
        )
        self.leases.startService()

    def publish(self, *publications: Publication) -> Publishing:
        exposure = Exposure(cast(IStreamClientEndpoint, None))
        self.service = Publishing(
            self.reactor,
            [cast(MasterClient, self.client)],
            [
                Published(self.reactor, self.leases, one, exposure, LOCAL, self.said.append)
                for one in publications
            ],
        )
        self.service.startService()
        return cast(Publishing, self.service)

    def lease(self) -> LeasedPort:
        self.service = LeasedPort(
            self.reactor,
            [cast(MasterClient, client) for client in (self.client, *self.others)],
            self.leases,
            cast(Any, None),
            cast(Any, self.punches),
            self.said.append,
        )
        self.service.startService()
        return cast(LeasedPort, self.service)

    def pass_(self, seconds: float) -> None:
        for _ in range(int(seconds * 2)):
            self.reactor.advance(0.5)

    def heard(self, text: str) -> int:
        return sum(text in line for line in self.said)

    def end(self) -> None:
        """
        Everything stops, and nothing is left.
        """
        ended: list[Any] = []
        self.service.stopService().addBoth(ended.append)
        self.leases.stopService()
        assert ended
        assert self.reactor.open == []
        assert not self.reactor.getDelayedCalls()
        assert self.mapper.lent == {}


def isUsed(world: World) -> bool:
    """
    Whether other peers are let in at the leased port.
    """
    return world.client.leased is not None


WEB = Publication("web", 8080)


# Reading.


def test_aPublicationIsAServiceAndPerhapsAPort() -> None:
    assert Publication.parse("web") == Publication("web", 0)
    assert Publication.parse("web=8080") == WEB


@pytest.mark.parametrize(
    "text", ["", "=80", "web=", "web=0", "web=65536", "web=x", "web=²", "a b=80", "web=80=80"]
)
def test_otherThingsAreNone(text: str) -> None:
    with pytest.raises(ConfigurationError):
        Publication.parse(text)


@pytest.mark.parametrize(
    ("description", "port"),
    [
        ("tcp:127.0.0.1:22", 22),
        ("tcp:host=127.0.0.1:port=22", 22),
        ("tcp:127.0.0.1:22:timeout=5", 22),
        ("tcp:host=127.0.0.1:22", 22),
        (r"tcp:\:\:1:22", 22),
        ("tcp:127.0.0.1:ssh", 0),
        ("tcp:127.0.0.1", 0),
        ("tcp:", 0),
        ("unix:/run/22", 0),
        ("tls:example.org:443", 0),
    ],
)
def test_thePortOfAnEndpoint(description: str, port: int) -> None:
    assert portOf(description) == port


# What stands before the peer.


@pytest.mark.parametrize(
    ("hosts", "seen", "hasNat"),
    [
        ((OWN,), SEEN, True),
        ((OUTSIDE,), SEEN, False),
        ((OWN, OUTSIDE), SEEN, False),
        (("127.0.0.1",), makeAddress("127.0.0.1", 1), False),
        ((OWN,), makeAddress("10.9.9.9", 1), None),
        ((OWN,), makeAddress("2001:db8::1", 1), None),
        ((OWN,), None, None),
    ],
)
def test_whetherThereIsANat(
    hosts: tuple[str, ...], seen: Address | None, hasNat: bool | None
) -> None:
    client = Client(hosts)
    client.seenAt(seen)
    assert hasNatBefore(cast(MasterClient, client)) is hasNat


# Publishing.


def test_nothingIsAskedBeforeAServerHasSpoken() -> None:
    world = World()
    publishing = world.publish(WEB)
    world.pass_(20)
    assert world.mapper.asked == []
    facts = publishing.toJSON()["web"]
    assert facts["address"] is None
    assert "no server has told yet" in facts["problem"]
    world.end()


def test_aServiceIsPublishedAtTheRouter() -> None:
    world = World()
    publishing = world.publish(WEB)
    world.client.seenAt(SEEN)
    world.pass_(2)
    assert publishing.toJSON() == {
        "web": {"address": f"{OUTSIDE}:8080", "by": "pcp", "problem": None}
    }
    assert world.heard(f"web is published at {OUTSIDE}:8080 (pcp)") == 1
    world.pass_(120)
    assert world.heard("is published") == 1
    world.end()


def test_whenItClosesTheRouterKeepsThePortForThoseWhoAreThere() -> None:
    world = World()
    publishing = world.publish(WEB)
    world.client.seenAt(SEEN)
    world.pass_(2)
    assert len(world.reactor.open) == 1
    publishing.close()
    world.pass_(20)
    assert world.reactor.open == []
    assert publishing.toJSON()["web"]["address"] == f"{OUTSIDE}:8080"
    world.end()


def test_theLocalPortIsTheSameEachTimeIfItIsFree() -> None:
    for taken, number in ((set[int](), LOCAL), ({LOCAL}, 4000)):
        world = World()
        world.reactor.taken = taken
        world.publish(WEB)
        world.client.seenAt(SEEN)
        world.pass_(2)
        assert [one.number for one in world.reactor.open] == [number]
        assert list(world.mapper.lent) == [number]
        world.end()


def test_eachPeerAndServiceHasALocalPortOfItsOwn() -> None:
    one, two = PeerID(b"1" * 32), PeerID(b"2" * 32)
    ports = {localPort(one, "web"), localPort(two, "web"), localPort(one, "ssh")}
    assert len(ports) == 3
    assert all(20000 <= port < 32000 for port in ports)
    assert localPort(one, "web") in ports


def test_anotherPortThanWantedIsSaid() -> None:
    world = World()
    world.mapper.taken = {8080}
    publishing = world.publish(WEB)
    world.client.seenAt(SEEN)
    world.pass_(2)
    facts = publishing.toJSON()["web"]
    assert facts["address"] == f"{OUTSIDE}:40001"
    assert facts["problem"] == "the router does not lend port 8080, but this one"
    world.end()


def test_aRouterThatLendsNothingIsSaid() -> None:
    world = World()
    world.mapper.problem = Unreachable("nobody there")
    publishing = world.publish(WEB)
    world.client.seenAt(SEEN)
    world.pass_(2)
    facts = publishing.toJSON()["web"]
    assert facts["address"] is None
    assert "lends no ports (pcp: nobody there)" in facts["problem"]
    world.end()


def test_aRouterBehindAnotherPublicAddressIsSaid() -> None:
    world = World()
    publishing = world.publish(WEB)
    world.client.seenAt(makeAddress("198.51.100.9", 1234))
    world.pass_(2)
    facts = publishing.toJSON()["web"]
    assert facts["address"] is None
    assert "another NAT stands before the router" in facts["problem"]
    world.end()


def test_anAddressThatHasChangedIsNotTakenForAnotherNat() -> None:
    """
    With PCP, the router tells its new address only when the lease is renewed.
    """
    world = World()
    publishing = world.publish(WEB)
    world.client.seenAt(SEEN)
    world.pass_(2)
    world.mapper.external = "203.0.113.99"
    world.client.seenAt(makeAddress("203.0.113.99", 1234))
    world.pass_(3)
    assert publishing.toJSON()["web"]["address"] == "203.0.113.99:8080"
    assert world.heard("another NAT") == 0
    world.end()


def test_aServerThatSeesUsAtAPrivateAddressCannotHelp() -> None:
    world = World()
    publishing = world.publish(WEB)
    world.client.seenAt(makeAddress("10.9.9.9", 1234))
    world.pass_(2)
    assert "no router's port helps" in publishing.toJSON()["web"]["problem"]
    assert world.mapper.asked == []
    world.end()


def test_withoutANatItListensThere() -> None:
    world = World(client=Client((OUTSIDE,)))
    publishing = world.publish(WEB)
    world.client.seenAt(SEEN)
    world.pass_(2)
    assert publishing.toJSON()["web"] == {
        "address": f"{OUTSIDE}:8080",
        "by": "no NAT",
        "problem": None,
    }
    [listener] = world.reactor.open
    assert (listener.number, listener.interface) == (8080, OUTSIDE)
    assert world.mapper.asked == []
    world.end()


def test_aPortThatIsTakenHereIsSaid() -> None:
    world = World(client=Client((OUTSIDE,)))
    world.reactor.taken = {8080}
    publishing = world.publish(WEB)
    world.client.seenAt(SEEN)
    world.pass_(2)
    facts = publishing.toJSON()["web"]
    assert facts["address"] is None
    assert "port 8080" in facts["problem"]
    assert "already in use" in facts["problem"]
    world.end()


def test_aPortThatWasTakenHereIsTriedAgain() -> None:
    world = World(client=Client((OUTSIDE,)))
    world.reactor.taken = {8080}
    publishing = world.publish(WEB)
    world.client.seenAt(SEEN)
    world.pass_(5)
    assert world.heard("is not published") == 1
    world.reactor.taken = set()
    world.pass_(2)
    assert publishing.toJSON()["web"]["by"] == "no NAT"
    assert len(world.reactor.listeners) == 1
    world.end()


@pytest.mark.parametrize("isLeased", [True, False])
def test_anErrorInOneRoundIsNotTheEnd(
    isLeased: bool, flushLoggedErrors: Callable[..., list[Any]]
) -> None:
    world = World()
    if isLeased:
        world.lease()
    else:
        world.publish(WEB)
    world.client.seenAt(SEEN)
    world.client.hosts = cast(Any, None)
    world.pass_(3)
    assert flushLoggedErrors(TypeError)
    world.client.hosts = (OWN,)
    world.pass_(3)
    assert len(world.mapper.lent) == 1
    world.end()


def test_aPeerThatMovesFromAPublicAddressBehindANatFollows() -> None:
    world = World(client=Client((OUTSIDE,)))
    publishing = world.publish(WEB)
    world.client.seenAt(SEEN)
    world.pass_(2)
    world.client.hosts = (OWN,)
    world.client.seenAt(SEEN)
    world.pass_(3)
    assert publishing.toJSON()["web"]["by"] == "pcp"
    assert len(world.reactor.open) == 1
    world.client.hosts = (OUTSIDE,)
    world.pass_(3)
    assert publishing.toJSON()["web"]["by"] == "no NAT"
    assert world.mapper.lent == {}
    world.end()


def test_aServerThatIsGoneChangesNothing() -> None:
    world = World()
    publishing = world.publish(WEB)
    world.client.seenAt(SEEN)
    world.pass_(2)
    world.client.seenAt(None)
    world.pass_(60)
    assert publishing.toJSON()["web"]["address"] == f"{OUTSIDE}:8080"
    world.end()


# The leased port.


def test_theLeasedPortIsProvenAndThenOffered() -> None:
    world = World()
    port = world.lease()
    world.pass_(20)
    assert world.mapper.asked == []
    world.client.seenAt(SEEN)
    world.pass_(3)
    assert port.external is not None
    assert world.client.proofs == [port.external]
    assert world.punches.offer.mapped == (port.external,)
    assert world.client.offers == [(port.external,)]
    assert isUsed(world)
    assert len(world.reactor.open) == 1
    world.end()


def test_whatIsNotProvenIsNotOffered() -> None:
    world = World()
    world.client.answers = [False]
    world.lease()
    world.client.seenAt(SEEN)
    world.pass_(30)
    assert world.punches.offer.mapped == ()
    assert not isUsed(world)
    assert world.heard("does not find us") == 1
    # And asked again, until it is.
    world.pass_(40)
    assert isUsed(world)
    world.end()


@pytest.mark.parametrize("error", [Refused("not now"), Unreachable("gone")])
def test_aServerThatWillNotLookIsAskedAgain(error: PunchdError) -> None:
    world = World()
    world.client.answers = [error, error]
    world.lease()
    world.client.seenAt(SEEN)
    world.pass_(leased.RETRY * 2 + 10)
    assert len(world.client.proofs) == 3
    assert world.heard(f"does not find us at {OUTSIDE}:40001: {error}") == 1
    assert isUsed(world)
    world.end()


def test_eachLoginIsProvenAnew() -> None:
    world = World()
    world.lease()
    world.client.seenAt(SEEN)
    world.pass_(3)
    world.client.seenAt(None)
    world.pass_(3)
    assert not isUsed(world)
    world.client.seenAt(SEEN)
    world.pass_(3)
    assert len(world.client.proofs) == 2
    assert isUsed(world)
    world.end()


def test_anotherLeaseIsProvenAnew() -> None:
    world = World()
    port = world.lease()
    world.client.seenAt(SEEN)
    world.pass_(3)
    world.mapper.external = "203.0.113.99"
    world.mapper.lent.clear()
    world.client.seenAt(makeAddress("203.0.113.99", 1))
    world.pass_(90)
    assert port.external is not None
    assert port.external.host == "203.0.113.99"
    assert world.punches.offer.mapped == (port.external,)
    assert world.client.proofs[-1] == port.external
    world.end()


def test_aRouterThatHasGotAnotherAddressIsAskedAtOnce() -> None:
    world = World()
    port = world.lease()
    world.client.seenAt(SEEN)
    world.pass_(3)
    world.mapper.external = "203.0.113.99"
    world.client.seenAt(makeAddress("203.0.113.99", 1))
    world.pass_(3)
    assert port.external is not None
    assert world.client.proofs[-1] == port.external
    assert world.punches.offer.mapped == (port.external,)
    assert world.heard("another NAT") == 0
    world.end()


def test_anotherNatBeforeTheRouterIsToldOnce() -> None:
    world = World()
    world.lease()
    world.client.seenAt(makeAddress("198.51.100.9", 1))
    world.client.answers = [False] * 100
    world.pass_(300)
    assert world.punches.offer.mapped == ()
    assert world.heard("another NAT stands before our router") == 1
    assert world.mapper.count("lease") == 2
    world.end()


def test_serversThatDisagreeDoNotMakeAFlood() -> None:
    world = World(others=[Client(), Client()])
    world.lease()
    for client, host in zip((world.client, *world.others), (3, 4, 7), strict=True):
        client.seenAt(makeAddress(f"203.0.113.{host}", 1))
    world.pass_(300)
    # One of them sees what the router says.
    assert world.mapper.count("lease") == 2
    assert [bool(client.leased) for client in (world.client, *world.others)] == [False, False, True]
    world.end()


def test_withoutAPortItIsTriedAgainAndSaidOnce() -> None:
    world = World()
    world.reactor.isFull = True
    world.lease()
    world.client.seenAt(SEEN)
    world.pass_(10)
    assert world.heard("has no port for the router") == 1
    world.reactor.isFull = False
    world.pass_(3)
    assert isUsed(world)
    world.end()


def test_aLeaseThatIsLostIsOfferedNoMore() -> None:
    world = World()
    world.lease()
    world.client.seenAt(SEEN)
    world.pass_(3)
    world.mapper.problem = Unreachable("the router does not answer")
    world.pass_(300)
    assert world.punches.offer.mapped == ()
    assert not isUsed(world)
    assert world.client.offers[-1] == ()
    # It has never got it back.
    world.mapper.lent.clear()
    world.end()


def test_aLeaseThatVanishedIsNoticedByTheProof() -> None:
    world = World()
    world.lease()
    world.client.seenAt(SEEN)
    world.pass_(3)
    made = world.mapper.count("lease")
    world.client.answers = [False]
    world.pass_(leased.PROVE_AGAIN + 5)
    assert world.mapper.count("lease") > made
    assert not isUsed(world)
    world.pass_(leased.RETRY + 5)
    assert isUsed(world)
    world.end()


def test_withoutANatNobodyIsAsked() -> None:
    world = World(client=Client((OUTSIDE,)))
    world.lease()
    world.client.seenAt(SEEN)
    world.pass_(60)
    assert world.mapper.asked == []
    assert world.reactor.open == []
    world.end()
