"""
Tests for the strategies that come with punchd, each with an attempt that only remembers.
"""

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import Deferred, DeferredQueue, fail, succeed
from twisted.internet.task import Clock
from zope.interface import implementer
from zope.interface.verify import verifyObject

from punchd.errors import Unreachable
from punchd.interfaces import IAttempt, IStrategy
from punchd.strategies.lan import Lan
from punchd.strategies.sequential import Sequential
from punchd.strategies.simultaneous import Simultaneous
from punchd.values.addresses import Address, makeAddress
from punchd.values.nat import Mapping, NatBehaviour
from punchd.values.outcomes import Outcome, Result
from punchd.values.parties import Offer, Party, Situation

STRATEGIES = [Lan(), Simultaneous(), Sequential()]

PUBLIC = makeAddress("198.51.100.1", 1000)
SAME = makeAddress("198.51.100.1", 2000)
OTHER = makeAddress("203.0.113.2", 2000)
PRIVATE = makeAddress("192.168.1.10", 1000)
PRIVATE2 = makeAddress("192.168.1.20", 2000)


@define(eq=False)
class Port:
    """
    A held port in name only.
    """

    number: int
    observed: Address | None = None
    listening: int = 0

    def listen(self) -> None:
        self.listening += 1

    def unlisten(self) -> None:
        self.listening -= 1


@define
class Raced:
    """
    What a strategy wanted to race.
    """

    port: Port
    remotes: list[Address]
    listening: bool
    retries: int
    outcome: Deferred[Outcome]


@implementer(IAttempt)
@define(eq=False)
class Remembering:
    """
    An attempt that does nothing, and remembers what it should have done.
    """

    situation: Situation
    isCaller: bool
    clock: Clock = field(factory=Clock)
    random: Random = field(factory=lambda: Random(1))
    races: list[Raced] = field(factory=list)
    told: list[tuple[bytes, Port | None]] = field(factory=list)
    fresh: list[Deferred[Port]] = field(factory=list)
    heard: DeferredQueue[tuple[bytes, Address | None]] = field(factory=DeferredQueue)
    telling: Deferred[None] | None = None
    steps: list[str] = field(factory=list)
    held: Port = field(factory=lambda: Port(7777))
    leased: Port | None = None
    ipv6: Port | None = None
    ordinary: list[Port] = field(factory=list)
    sprays: list[tuple[list[Any], Any, Deferred[Outcome]]] = field(factory=list)

    def heldPort(self) -> Any:
        return self.held

    def ordinaryPort(self) -> Any:
        self.ordinary.append(Port(8888 + len(self.ordinary)))
        return self.ordinary[-1]

    def leasedPort(self) -> Any:
        return self.leased

    def ipv6Port(self) -> Any:
        return self.ipv6

    def spray(
        self, remotes: Sequence[Any], port: Any = None, patience: float = 1.0
    ) -> Deferred[Outcome]:
        self.sprays.append((list(remotes), port, Deferred()))
        return self.sprays[-1][2]

    def freshPort(self) -> Any:
        self.fresh.append(Deferred())
        return self.fresh[-1]

    def race(
        self, port: Any, remotes: Sequence[Any], listening: bool, retries: int = 1
    ) -> Deferred[Outcome]:
        self.races.append(Raced(port, list(remotes), listening, retries, Deferred()))
        return self.races[-1].outcome

    def tell(self, body: bytes, port: Any = None) -> Deferred[None]:
        self.told.append((body, port))
        return succeed(None) if self.telling is None else self.telling

    def hear(self) -> Deferred[tuple[bytes, Any]]:
        return self.heard.get()

    def note(self, step: str) -> None:
        self.steps.append(step)


def between(
    caller: tuple[Address, Offer], callee: tuple[Address, Offer], isCaller: bool = True
) -> Remembering:
    return Remembering(Situation(Party(*caller), Party(*callee)), isCaller)


BEHIND = Offer(hosts=(PRIVATE,))
BEHIND2 = Offer(hosts=(PRIVATE2,))


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda one: one.name)
def test_itIsAStrategy(strategy: IStrategy) -> None:
    verifyObject(IStrategy, strategy)


def test_theAttemptOfTheseTestsIsOne() -> None:
    verifyObject(IAttempt, between((PUBLIC, Offer()), (OTHER, Offer())))


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda one: one.name)
def test_considerationIsBlindToTheSide(strategy: IStrategy) -> None:
    situation = Situation(Party(PUBLIC, BEHIND), Party(SAME, BEHIND2))
    assert strategy.consider(situation) == strategy.consider(situation)


# lan


def test_lanWantsOnePublicAddressAndPrivateOnes() -> None:
    assert Lan().consider(Situation(Party(PUBLIC, BEHIND), Party(SAME, BEHIND2))) is not None


@pytest.mark.parametrize(
    ("callee", "offer"),
    [(OTHER, BEHIND2), (SAME, Offer()), (SAME, Offer(hosts=(OTHER,)))],
    ids=["another network", "no hosts", "no private host"],
)
def test_lanDoesNotApply(callee: Address, offer: Offer) -> None:
    assert Lan().consider(Situation(Party(PUBLIC, BEHIND), Party(callee, offer))) is None


@pytest.mark.parametrize(("isCaller", "remote"), [(True, PRIVATE2), (False, PRIVATE)])
def test_lanDialsTheOthersPrivateHosts(isCaller: bool, remote: Address) -> None:
    attempt = between((PUBLIC, BEHIND), (SAME, BEHIND2), isCaller)
    Lan().attempt(attempt)
    (race,) = attempt.races
    assert (race.remotes, race.port, race.listening) == ([remote], attempt.held, True)


def test_lanDialsNoPublicHost() -> None:
    offer = Offer(hosts=(OTHER, PRIVATE2))
    attempt = between((PUBLIC, BEHIND), (SAME, offer))
    Lan().attempt(attempt)
    assert attempt.races[0].remotes == [PRIVATE2]


# simultaneous


@pytest.mark.parametrize(("isCaller", "remote"), [(True, OTHER), (False, PUBLIC)])
def test_simultaneousDialsWhatTheServerHasSeen(isCaller: bool, remote: Address) -> None:
    attempt = between((PUBLIC, BEHIND), (OTHER, BEHIND2), isCaller)
    Simultaneous().attempt(attempt)
    (race,) = attempt.races
    assert (race.remotes, race.port) == ([remote], attempt.held)


def test_simultaneousDoesNotListenBehindANat() -> None:
    attempt = between((PUBLIC, BEHIND), (OTHER, BEHIND2))
    Simultaneous().attempt(attempt)
    assert not attempt.races[0].listening


def test_simultaneousListensWhereNoNatIs() -> None:
    attempt = between((PUBLIC, Offer(hosts=(PUBLIC,))), (OTHER, BEHIND2))
    Simultaneous().attempt(attempt)
    assert attempt.races[0].listening


@pytest.mark.parametrize(
    ("mapping", "listening"),
    [
        (None, False),
        (Mapping.ENDPOINT_INDEPENDENT, False),
        (Mapping.ADDRESS_DEPENDENT, True),
        (Mapping.ADDRESS_AND_PORT_DEPENDENT, True),
    ],
)
def test_simultaneousListensForWhoComesFromAnotherPort(
    mapping: Mapping | None, listening: bool
) -> None:
    attempt = between((PUBLIC, BEHIND), (OTHER, Offer(NatBehaviour(mapping), (PRIVATE2,))))
    Simultaneous().attempt(attempt)
    assert attempt.races[0].listening is listening


# sequential


def run(attempt: Remembering) -> list[Outcome]:
    outcomes: list[Outcome] = []
    Sequential().attempt(attempt).addCallback(outcomes.append)
    return outcomes


def test_theCallerTellsItsFreshPortAndWaits() -> None:
    attempt = between((PUBLIC, BEHIND), (OTHER, BEHIND2))
    run(attempt)
    port = Port(1, PUBLIC)
    attempt.fresh[0].callback(port)
    assert attempt.told == [(b"port", port)]
    assert port.listening == 1
    assert attempt.races == []


def test_theCallerDialsWhenTheCalleeIsReady() -> None:
    attempt = between((PUBLIC, BEHIND), (OTHER, BEHIND2))
    run(attempt)
    port = Port(1, PUBLIC)
    attempt.fresh[0].callback(port)
    attempt.heard.put((b"ready", OTHER))
    (race,) = attempt.races
    assert (race.port, race.remotes, race.listening) == (port, [OTHER], True)


def test_onceItRacesTheCallerListensOnlyAsLongAsTheRaceDoes() -> None:
    attempt = between((PUBLIC, BEHIND), (OTHER, BEHIND2))
    run(attempt)
    port = Port(1, PUBLIC)
    attempt.fresh[0].callback(port)
    attempt.heard.put((b"ready", OTHER))
    assert port.listening == 0


def test_theCalleeDialsAndReportsReady() -> None:
    attempt = between((PUBLIC, BEHIND), (OTHER, BEHIND2), isCaller=False)
    run(attempt)
    attempt.heard.put((b"port", PUBLIC))
    port = Port(2, OTHER)
    attempt.fresh[0].callback(port)
    (race,) = attempt.races
    assert (race.port, race.remotes, race.listening) == (port, [PUBLIC], True)
    assert attempt.told == [(b"ready", port)]


def test_theCalleeDoesNothingBeforeItHears() -> None:
    attempt = between((PUBLIC, BEHIND), (OTHER, BEHIND2), isCaller=False)
    run(attempt)
    assert (attempt.fresh, attempt.races, attempt.told) == ([], [], [])


def test_theRacesOutcomeIsTheAttempts() -> None:
    attempt = between((PUBLIC, BEHIND), (OTHER, BEHIND2), isCaller=False)
    outcomes = run(attempt)
    attempt.heard.put((b"port", PUBLIC))
    attempt.fresh[0].callback(Port(2, OTHER))
    outcome = Outcome("sequential", Result.CONNECTED, 1.0)
    attempt.races[0].outcome.callback(outcome)
    assert outcomes == [outcome]


def test_withoutAssistServiceItIsNotPossible() -> None:
    attempt = between((PUBLIC, BEHIND), (OTHER, BEHIND2))
    outcomes = run(attempt)
    attempt.fresh[0].errback(Unreachable("the assist service does not answer"))
    (outcome,) = outcomes
    assert (outcome.result, outcome.detail) == (
        Result.NOT_POSSIBLE,
        "the assist service does not answer",
    )


@pytest.mark.parametrize("message", [(b"hello", OTHER), (b"ready", None)])
def test_anotherMessageThanExpectedMakesItImpossible(message: tuple[bytes, Any]) -> None:
    attempt = between((PUBLIC, BEHIND), (OTHER, BEHIND2))
    outcomes = run(attempt)
    attempt.fresh[0].callback(Port(1, PUBLIC))
    attempt.heard.put(message)
    assert [outcome.result for outcome in outcomes] == [Result.NOT_POSSIBLE]


def test_aCalleeThatCannotReportEndsItsRace() -> None:
    attempt = between((PUBLIC, BEHIND), (OTHER, BEHIND2), isCaller=False)
    outcomes = run(attempt)
    attempt.telling = fail(Unreachable("the connection ended"))
    attempt.heard.put((b"port", PUBLIC))
    ended: list[object] = []
    attempt.fresh[0].addCallback(lambda port: port)
    attempt.fresh[0].callback(Port(2, OTHER))
    attempt.races[0].outcome.addBoth(ended.append)
    assert [outcome.result for outcome in outcomes] == [Result.NOT_POSSIBLE]
    assert len(ended) == 1
