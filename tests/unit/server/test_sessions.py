"""
Tests for L{punchd.server.sessions}.
"""

import pytest
from attrs import define, evolve, field
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.task import Clock

from punchd.server.sessions import PONG_PATIENCE, SILENCE, Population, Session, kept
from punchd.values.addresses import Address
from punchd.values.nat import Mapping, NatBehaviour
from punchd.values.parties import Offer
from tests.unit.server.pretending import makeSession, peerID, private, public


@define
class Book:
    """
    Who came, who changed, and who went.
    """

    lines: list[str] = field(factory=list)

    def arrived(self, session: Session) -> None:
        self.lines.append(f"{session.name} comes")

    def changed(self, session: Session) -> None:
        self.lines.append(f"{session.name} changes")

    def left(self, session: Session) -> None:
        self.lines.append(f"{session.name} goes")


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_theFirstPingsComeSoonTheOthersSeldom(clock: Clock) -> None:
    session = makeSession(clock, 1)
    times = []
    for _ in range(80):
        now = clock.seconds()
        session.heardAt = now
        if session.wantsPing(now):
            session.pinged(now)
            session.ponged(now + 0.1)
            times.append(now)
        clock.advance(1)
    assert times == [0, 1, 2, 27, 52, 77]


def test_noSecondPingWhileOneIsUnanswered(clock: Clock) -> None:
    session = makeSession(clock, 1)
    session.pinged(0)
    assert not session.wantsPing(5)


def test_aSilentPeerIsDead(clock: Clock) -> None:
    session = makeSession(clock, 1)
    assert session.death(SILENCE - 0.1) is None
    assert "silent" in (session.death(SILENCE) or "")


def test_aPeerThatTalksButDoesNotAnswerIsDead(clock: Clock) -> None:
    session = makeSession(clock, 1)
    session.pinged(100)
    session.heardAt = 100 + PONG_PATIENCE
    assert "no answer" in (session.death(100 + PONG_PATIENCE) or "")


def test_theWayIsHalfTheLeastOfTheLatestRoundTrips(clock: Clock) -> None:
    session = makeSession(clock, 1)
    assert session.oneWay is None
    for start, roundTrip in enumerate([0.01, 0.5, 0.06, 0.3, 0.2]):
        session.pinged(start * 10)
        session.ponged(start * 10 + roundTrip)
    assert session.oneWay == pytest.approx(0.03)


def test_anAnswerThatWasNotAskedForCountsNothing(clock: Clock) -> None:
    session = makeSession(clock, 1)
    session.ponged(5)
    assert session.oneWay is None


def test_aSecondLoginTakesThePlaceOfTheFirst(clock: Clock) -> None:
    population = Population()
    first, second = makeSession(clock, 1), makeSession(clock, 1)
    assert population.arrive(first) is None
    assert population.arrive(second) is first
    population.leave(first)
    assert population.get(peerID(1)) is second
    population.leave(second)
    assert population.get(peerID(1)) is None
    assert len(population) == 0


OBSERVED = public(1)


@pytest.mark.parametrize(
    "host",
    [
        private(7),
        IPv4Address("TCP", "10.0.0.1", 80),
        IPv4Address("TCP", "100.64.0.1", 80),
        IPv6Address("TCP", "fd00::1", 80),
        IPv4Address("TCP", OBSERVED.host, 80),
    ],
)
def test_hostsThatHarmNobodyAreKept(host: Address) -> None:
    assert kept(Offer(hosts=(host,)), OBSERVED).hosts == (host,)


@pytest.mark.parametrize(
    "host",
    [
        public(2),
        IPv4Address("TCP", "127.0.0.1", 80),
        IPv4Address("TCP", "224.0.0.1", 80),
        IPv4Address("TCP", "255.255.255.255", 80),
        IPv4Address("TCP", "0.0.0.0", 80),
        IPv4Address("TCP", "169.254.1.1", 80),
        IPv4Address("TCP", "10.0.0.1", 0),
        IPv4Address("TCP", OBSERVED.host, 0),
        IPv6Address("TCP", "2001:db8::1", 80),
        IPv6Address("TCP", "::1", 80),
        IPv6Address("TCP", "fe80::1", 80),
        IPv6Address("TCP", "ff02::1", 80),
    ],
)
def test_hostsThatCouldBeAnyonesAreNotKept(host: Address) -> None:
    assert kept(Offer(hosts=(host,)), OBSERVED).hosts == ()


def test_everythingElseOfAnOfferIsKept() -> None:
    offer = Offer(NatBehaviour(Mapping.ADDRESS_DEPENDENT), (private(1), private(1)), (("lan", 1),))
    assert kept(offer, OBSERVED) == evolve(offer, hosts=(private(1),))


def test_whoWatchesHearsWhoComesAndGoes(clock: Clock) -> None:
    watcher = Book()
    population = Population([watcher])
    first, second = makeSession(clock, 1, name="a"), makeSession(clock, 1, name="b")
    population.arrive(first)
    population.arrive(second)
    population.leave(first)
    population.leave(second)
    assert watcher.lines == ["a comes", "a goes", "b comes", "b goes"]


def test_whoWatchesHearsOfChangesOfThoseWhoAreThere(clock: Clock) -> None:
    watcher = Book()
    population = Population([watcher])
    first, second = makeSession(clock, 1, name="old"), makeSession(clock, 1, name="new")
    population.changed(first)
    population.arrive(first)
    population.changed(first)
    population.arrive(second)
    population.changed(first)
    population.leave(second)
    population.changed(second)
    assert watcher.lines == ["old comes", "old changes", "old goes", "new comes", "new goes"]
