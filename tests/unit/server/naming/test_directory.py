"""
Tests for L{punchd.server.naming.directory}.
"""

from typing import Any

import pytest
from attrs import evolve
from twisted.internet.address import IPv6Address
from twisted.internet.task import Clock

from punchd.server.naming import directory
from punchd.server.naming.directory import Directory, Entry, entryFor
from punchd.server.sessions import Population, Session
from punchd.values.naming import Listing
from tests.unit.server.pretending import makeSession, peerID, public

LISTED = Listing(hasAddress=True)
SIXTH = IPv6Address("TCP", "2001:db8::1", 4000)


def peer(
    number: int = 1, listing: Listing = LISTED, clock: Clock | None = None, **facts: Any
) -> Session:
    session = makeSession(clock or Clock(), number, **facts)
    session.listing = listing
    return session


def test_whoHasNotAskedIsNotThere() -> None:
    assert entryFor(peer(listing=Listing())) is None


def test_anAddressIsTheOneThatTheServerSees() -> None:
    assert entryFor(peer()) == Entry(peerID(1), ("198.51.100.1",), {})
    assert entryFor(peer(observed=SIXTH)) == Entry(peerID(1), ("2001:db8::1",), {})


def test_anIPv6AddressIsTheOneThatTheAssistServiceHasSeen() -> None:
    session = peer()
    session.offer = evolve(session.offer, ipv6=SIXTH)
    entry = entryFor(session)
    assert entry is not None
    assert entry.hosts == ("198.51.100.1", "2001:db8::1")


def test_aPortIsNamedOnceItIsProven() -> None:
    session = peer(listing=Listing(True, (("Web", 80), ("ssh", 22))))
    session.proven = frozenset({public(1, 80), public(2, 22)})
    entry = entryFor(session)
    assert entry is not None
    assert entry.services == {"web": 80}


def test_aPublishedServiceBringsTheNameWithIt() -> None:
    session = peer(listing=Listing(False, (("web", 80),)))
    assert entryFor(session) is None
    session.proven = frozenset({public(1, 80)})
    assert entryFor(session) == Entry(peerID(1), ("198.51.100.1",), {"web": 80})


@pytest.mark.parametrize("service", ["a_b", "a.b", "a-", "x" * 63])
def test_aServiceThatTheDNSCannotNameIsLeftOut(service: str) -> None:
    session = peer(listing=Listing(True, ((service, 80),)))
    session.proven = frozenset({public(1, 80)})
    entry = entryFor(session)
    assert entry is not None
    assert entry.services == {}


def test_aNameThatTheDNSDoesNotHaveIsLeftOut() -> None:
    assert entryFor(peer(name="a_b")) is None


def found(names: Directory, *wanted: str) -> list[tuple[str, ...] | None]:
    entries = [names.find(name) for name in wanted]
    return [None if entry is None else entry.hosts for entry in entries]


def test_aNameIsFoundWhileItsPeerIsThere() -> None:
    names = Directory(Clock())
    population = Population([names])
    session = peer(name="Bob")
    population.arrive(session)
    assert found(names, "bob", "carol") == [("198.51.100.1",), None]
    population.leave(session)
    assert names.find("bob") is None


def test_anotherConnectionIsAnotherAddressAtOnce() -> None:
    names = Directory(Clock(), 60)
    population = Population([names])
    old, new = peer(name="bob"), peer(name="bob", observed=public(9))
    population.arrive(old)
    population.arrive(new)
    population.leave(old)
    assert found(names, "bob") == [("198.51.100.9",)]


def test_aKeyThatTakesAnotherNameGivesUpTheOldOne() -> None:
    names = Directory(Clock())
    population = Population([names])
    population.arrive(peer(name="bob"))
    population.arrive(peer(name="robert"))
    assert found(names, "bob", "robert") == [None, ("198.51.100.1",)]


def test_aNameThatChangesItsOwnerLeadsToTheNewOne() -> None:
    names = Directory(Clock(), 60)
    population = Population([names])
    old, new = peer(1, name="bob"), peer(2, name="bob")
    population.arrive(old)
    population.arrive(new)
    assert found(names, "bob") == [("198.51.100.2",)]
    # The old owner's connection ends later, and takes nothing with it.
    population.leave(old)
    assert found(names, "bob") == [("198.51.100.2",)]


def test_twoPeersThatFlapAreEachWhereTheyWereLast() -> None:
    names = Directory(Clock())
    population = Population([names])
    for number in range(200):
        session = peer(1, name="bob", observed=public(number % 2 + 1))
        population.arrive(session)
        assert found(names, "bob") == [(session.observed.host,)]
    assert len(names._online) == 1


def test_whoHasGoneIsKeptAsLongAsWanted() -> None:
    clock = Clock()
    names = Directory(clock, 60)
    population = Population([names])
    session = peer(name="bob")
    population.arrive(session)
    clock.advance(5)
    population.leave(session)
    entry = names.find("bob")
    assert entry is not None
    assert (entry.hosts, entry.goneAt) == (("198.51.100.1",), 5.0)
    clock.advance(60)
    assert names.find("bob") is None
    names.sweep()
    assert not names._gone


def test_whoComesBackIsWhereItIs() -> None:
    names = Directory(Clock(), 60)
    population = Population([names])
    session = peer(name="bob")
    population.arrive(session)
    population.leave(session)
    population.arrive(peer(name="bob", listing=Listing()))
    assert names.find("bob") is None


def test_whoDoesNotWantToBeFoundIsNotKept() -> None:
    names = Directory(Clock(), 60)
    population = Population([names])
    session = peer(name="bob")
    population.arrive(session)
    session.listing = Listing()
    population.leave(session)
    assert names.find("bob") is None


def test_onlySoManyAreKept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "MOST_KEPT", 3)
    names = Directory(Clock(), 60)
    population = Population([names])
    for number in range(1, 6):
        session = peer(number)
        population.arrive(session)
        population.leave(session)
    assert [names.find(f"peer{number}") is not None for number in range(1, 6)] == [
        False,
        False,
        True,
        True,
        True,
    ]
