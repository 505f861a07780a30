"""
Tests for L{punchd.peer.announcing}: the servers are the test's.
"""

from __future__ import annotations

from typing import Any, cast

import pytest
from attrs import define, evolve, field
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from punchd.errors import ConfigurationError, PunchdError, Refused
from punchd.peer.announcing import PROVE_AGAIN, RETRY, Announcing
from punchd.peer.conversation import Welcome
from punchd.peer.publishing import Publication
from punchd.values.addresses import Address, makeAddress
from punchd.values.naming import UNLISTED, Listing
from punchd.wire.commands import Prove

HOST = "198.51.100.1"
SEEN = makeAddress(HOST, 5000)
ZONE = "peers.example.org"


class Join:
    where = "server.example:7761"


@define(eq=False)
class Client:
    """
    A server's client in name only.

    @ivar answers: whether the server finds us, in order; an error is raised.
    """

    clock: Clock
    welcome: Welcome | None = None
    join: Join = field(factory=Join)
    listing: Listing = UNLISTED
    answers: list[bool | PunchdError] = field(factory=list)
    proofs: list[int] = field(factory=list)
    told: list[Listing] = field(factory=list)

    def entropy(self, length: int) -> bytes:
        return bytes(length)

    def ask(self, command: Any, port: int, secret: bytes) -> Deferred[dict[str, Any]]:
        assert command is Prove
        self.proofs.append(port)
        answer = self.answers.pop(0) if self.answers else True
        return fail(answer) if isinstance(answer, PunchdError) else succeed({"proven": answer})

    def update(self) -> None:
        self.told.append(self.listing)


@define(eq=False)
class Published:
    publication: Publication
    address: Address | None = None
    secrets: set[bytes] = field(factory=set)


@define(eq=False)
class World:
    """
    A peer with one server.
    """

    clock: Clock = field(factory=Clock)
    client: Client = field(init=False)
    web: Published = field(factory=lambda: Published(Publication("web", 80)))
    said: list[str] = field(factory=list)
    service: Any = None

    def __attrs_post_init__(self) -> None:
        self.client = Client(self.clock)

    def begin(
        self, name: str = "bob", *published: Published, hasAddress: bool = True
    ) -> Announcing:
        self.service = Announcing(
            self.clock,
            [cast(Any, self.client)],
            name,
            [cast(Any, one) for one in published or (self.web,)],
            hasAddress,
            self.said.append,
        )
        self.service.startService()
        return cast(Announcing, self.service)

    def connect(self, zone: str | None = ZONE, seen: Address = SEEN) -> None:
        self.client.welcome = Welcome(seen, (), zone=zone)

    def wait(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.clock.advance(1)

    def heard(self, text: str) -> int:
        return sum(text in line for line in self.said)

    def end(self) -> None:
        self.service.stopService()
        assert self.clock.getDelayedCalls() == []


@pytest.fixture
def world() -> World:
    return World()


def test_theFirstGreetingSaysIt(world: World) -> None:
    world.begin()
    assert world.client.listing == Listing(True)
    world.end()


def test_withoutTheOptionNothingIsSaid(world: World) -> None:
    world.begin(hasAddress=False)
    assert world.client.listing == UNLISTED
    world.connect()
    world.wait(5)
    assert world.client.told == []
    world.end()


def test_aNameThatTheDNSDoesNotHaveIsAMistake(world: World) -> None:
    with pytest.raises(ConfigurationError, match="'bob_1' cannot be a name in the DNS"):
        world.begin("bob_1")


def test_thePersonIsToldTheNameOnce(world: World) -> None:
    world.begin("Bob")
    world.connect()
    world.wait(5)
    assert world.heard("the server at server.example:7761 names this peer bob.peers.example.org")
    assert len(world.said) == 1
    world.end()


def test_theNameIsKnownWhileThePeerIsThere(world: World) -> None:
    announcing = world.begin("Bob")
    client = cast(Any, world.client)
    assert announcing.nameAt(client) is None
    world.connect()
    assert announcing.nameAt(client) == "bob.peers.example.org"
    world.client.welcome = None
    assert announcing.nameAt(client) is None
    world.connect(zone=None)
    assert announcing.nameAt(client) is None
    world.end()


def test_whoPublishesNothingHasNoName(world: World) -> None:
    announcing = world.begin(hasAddress=False)
    world.connect()
    world.wait(5)
    assert announcing.nameAt(cast(Any, world.client)) is None
    world.web.address = makeAddress(HOST, 80)
    world.wait(5)
    assert announcing.nameAt(cast(Any, world.client)) == "bob.peers.example.org"
    world.end()


def test_thePersonIsToldThatThereIsNoZone(world: World) -> None:
    world.begin()
    world.web.address = makeAddress(HOST, 80)
    world.connect(zone=None)
    world.wait(5)
    assert world.heard("has no zone in the DNS") == 1
    world.end()


def test_aServerWithoutAZoneIsToldWhatIsPublishedToo(world: World) -> None:
    world.begin()
    world.web.address = makeAddress(HOST, 80)
    world.connect(zone=None)
    world.wait(5)
    assert world.client.proofs == [80]
    assert world.client.told == [Listing(True, (("web", 80),))]
    world.end()


def test_aServiceIsNamedOnceTheServerHasFoundIt(world: World) -> None:
    world.begin()
    world.connect()
    world.wait(2)
    assert world.client.told == []
    world.web.address = makeAddress(HOST, 8080)
    world.wait(1)
    assert world.client.proofs == [8080]
    assert world.client.told == [Listing(True, (("web", 8080),))]
    assert world.heard("finds web at 198.51.100.1:8080") == 1
    world.wait(PROVE_AGAIN - 2)
    assert world.client.proofs == [8080]
    world.wait(2)
    assert world.client.proofs == [8080, 8080]
    assert len(world.client.told) == 1
    assert not world.web.secrets
    world.end()


def test_aServiceThatIsNotFoundIsNotNamed(world: World) -> None:
    world.client.answers = [False, False, True]
    world.begin()
    world.web.address = makeAddress(HOST, 80)
    world.connect()
    world.wait(RETRY)
    assert world.heard("does not find web at 198.51.100.1:80") == 1
    assert world.client.told == []
    world.wait(2 * RETRY)
    assert world.client.told == [Listing(True, (("web", 80),))]
    world.end()


def test_aServiceThatIsFoundNoLongerIsTakenOut(world: World) -> None:
    world.client.answers = [True, False]
    world.begin()
    world.web.address = makeAddress(HOST, 80)
    world.connect()
    world.wait(PROVE_AGAIN + 2)
    assert world.client.told == [Listing(True, (("web", 80),)), Listing(True)]
    world.end()


def test_withoutAnAnswerItIsAsItWas(world: World) -> None:
    world.client.answers = [True, Refused("too often")]
    world.begin()
    world.web.address = makeAddress(HOST, 80)
    world.connect()
    world.wait(PROVE_AGAIN + 2)
    assert len(world.client.told) == 1
    assert world.heard("too often") == 1
    world.wait(RETRY)
    assert len(world.client.proofs) == 3
    world.end()


def test_aNewConnectionHasToSeeForItself(world: World) -> None:
    world.begin()
    world.web.address = makeAddress(HOST, 80)
    world.connect()
    world.wait(2)
    world.client.welcome = None
    world.wait(2)
    world.connect()
    world.wait(2)
    assert world.client.proofs == [80, 80]
    world.end()


def test_anotherAddressIsProvenAnew(world: World) -> None:
    world.begin()
    world.web.address = makeAddress(HOST, 80)
    world.connect()
    world.wait(2)
    # The router's new address is known to the server first.
    world.connect(seen=makeAddress("198.51.100.2", 5000))
    world.wait(2)
    assert world.client.listing == Listing(True)
    world.web.address = makeAddress("198.51.100.2", 81)
    world.wait(2)
    assert world.client.listing == Listing(True, (("web", 81),))
    world.end()


@pytest.mark.parametrize(
    ("name", "service", "why"),
    [
        ("bob", "a_b", "a_b will not be in the DNS, which has no such names of services"),
        ("bob_1", "web", "web will not be in the DNS: 'bob_1' cannot be a name"),
    ],
)
def test_whatTheDNSCannotNameIsSaid(world: World, name: str, service: str, why: str) -> None:
    odd = Published(Publication(service), makeAddress(HOST, 80))
    world.begin(name, odd, hasAddress=False)
    world.connect()
    world.wait(3)
    assert world.heard(why) == 1
    assert world.client.proofs == []
    world.end()


def test_severalServicesAreEachProven(world: World) -> None:
    ssh = Published(Publication("ssh"), makeAddress(HOST, 22))
    world.web.address = makeAddress(HOST, 80)
    world.client.answers = [True, False]
    world.begin("bob", world.web, ssh)
    world.connect()
    world.wait(2)
    assert world.client.listing == Listing(True, (("web", 80),))
    assert evolve(world.client.listing, hasAddress=False).services
    world.end()
