"""
A peer that wants a name in the DNS, and its server.
"""

from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred

from punchd.errors import Refused
from punchd.server.conversation import Conversation, Stage
from punchd.server.naming.directory import Directory
from punchd.server.naming.zone import Zone
from punchd.values.naming import Listing
from punchd.wire.commands import Hello, Update
from punchd.wire.listing import listingArguments
from tests.unit.server.pretending import public
from tests.unit.server.test_conversation import World, answerOf, ask, errorOf, failureOf

LISTED = Listing(True)


def makeWorld(zone: str = "peers.example.org") -> World:
    world = World()
    names = Directory(world.clock)
    world.exchange.population.watchers.append(names)
    served = Zone(zone, names.find, world.clock.seconds, ["192.0.2.1"])
    world.exchange = evolve(world.exchange, zone=served)
    return world


def say(
    conversation: Conversation, command: Any = Hello, listing: Listing = LISTED, **arguments: Any
) -> Deferred[dict[str, Any]]:
    return ask(
        conversation,
        command,
        accepts=frozenset(),
        hosts=[],
        strategies=[],
        **arguments,
        **listingArguments(listing),
    )


def hello(conversation: Conversation, name: str, listing: Listing = LISTED) -> Deferred[Any]:
    return say(conversation, Hello, listing, version=1, oldest=1, name=name)


def found(world: World, name: str) -> tuple[str, ...] | None:
    assert world.exchange.zone is not None
    entry = world.exchange.zone._find(name)
    return None if entry is None else entry.hosts


def test_itIsToldInWhichZoneItIs() -> None:
    world = makeWorld()
    assert answerOf(hello(world.connect(1), "bob"))["zone"] == "peers.example.org"
    assert found(world, "bob") == ("198.51.100.1",)


def test_withoutAZoneItIsToldSo() -> None:
    assert answerOf(hello(World().connect(1), "bob"))["zone"] is None


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("bob_1", "'bob_1' cannot be a name in the DNS"),
        ("bob.smith", "use 1 to 63 letters, digits or '-'"),
        ("xn--a", "cannot be a name in the DNS"),
        ("NS", "ns.peers.example.org is the server's own: choose another --name"),
    ],
)
def test_aNameThatCannotBeInTheDNSIsRefusedAndWhy(name: str, why: str) -> None:
    world = makeWorld()
    conversation = world.connect(1)
    failure = failureOf(hello(conversation, name))
    assert why in str(failure)
    # It may try again, by another name or without the DNS.
    assert conversation.stage is Stage.STRANGER
    assert answerOf(hello(conversation, name, Listing()))


def test_whoDoesNotWantToBeInTheDNSMayBeCalledAnything() -> None:
    world = makeWorld()
    assert answerOf(hello(world.connect(1), "bob_1", Listing()))
    assert answerOf(hello(World().connect(1), "bob_1"))


def test_itMayChangeItsMind() -> None:
    world = makeWorld()
    conversation = world.connect(1)
    answerOf(hello(conversation, "bob", Listing()))
    assert found(world, "bob") is None
    answerOf(say(conversation, Update))
    assert found(world, "bob") == ("198.51.100.1",)
    answerOf(say(conversation, Update, Listing()))
    assert found(world, "bob") is None


def test_itMayNotChangeItsMindUnderABadName() -> None:
    world = makeWorld()
    conversation = world.connect(1)
    answerOf(hello(conversation, "bob_1", Listing()))
    assert errorOf(say(conversation, Update)) is Refused


def test_theNextAnswerKnowsOfANewAddress() -> None:
    world = makeWorld()
    answerOf(hello(world.connect(1), "bob"))
    answerOf(hello(world.connect(1, public(7)), "bob"))
    assert found(world, "bob") == ("198.51.100.7",)
