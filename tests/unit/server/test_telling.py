"""
Tests for L{punchd.server.telling}.
"""

import pytest
from attrs import evolve
from twisted.internet.address import IPv6Address
from twisted.internet.task import Clock

from punchd.hooks.facts import Facts, Subject
from punchd.server.sessions import Population
from punchd.server.telling import Telling, factsOf
from punchd.values.naming import Listing
from tests.unit.server.pretending import makeSession, peerID, public

SIXTH = IPv6Address("TCP", "2001:db8::1", 4000)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_theAddressOfWhoDoesNotPublishItIsOnlyObserved(clock: Clock) -> None:
    """
    A command that tells others what is in the other variables cannot tell it by mistake.
    """
    session = makeSession(clock, 1, name="bob")
    session.offer = evolve(session.offer, ipv6=SIXTH)
    assert factsOf(session) == Facts(Subject.PEER, "bob", peerID(1), observed="198.51.100.1")


def test_whoPublishesHasAddressesAndServices(clock: Clock) -> None:
    session = makeSession(clock, 1, name="bob")
    session.listing = Listing(True, (("web", 80), ("ssh", 22), ("irc", 6667)))
    session.proven = frozenset({public(1, 80), public(1, 22)})
    session.offer = evolve(session.offer, ipv6=SIXTH)
    facts = factsOf(session)
    assert facts.addresses == ("198.51.100.1", "2001:db8::1")
    assert facts.services == (("ssh", 22), ("web", 80))


def test_aNameThatTheDNSDoesNotHaveIsPublishedNowhere(clock: Clock) -> None:
    session = makeSession(clock, 1, name="www.bob")
    session.listing = Listing(True)
    assert factsOf(session).addresses == ()


def test_everyChangeIsPassedOn(clock: Clock) -> None:
    told: list[Facts] = []
    population = Population([Telling(told.append)])
    session = makeSession(clock, 1, name="bob")
    population.arrive(session)
    session.listing = Listing(True)
    population.changed(session)
    population.leave(session)
    assert [(facts.isThere, facts.addresses) for facts in told] == [
        (True, ()),
        (True, ("198.51.100.1",)),
        (False, ()),
    ]
