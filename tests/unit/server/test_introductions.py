"""
Tests for L{punchd.server.introductions}.
"""

from typing import Any

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from punchd.errors import Overlapping, PunchdError, Refused, UnknownPeer
from punchd.peer.conversation import CALL_BURST, CALL_RATE
from punchd.server.introductions import (
    CALLS_AT_ONCE,
    CALLS_PER_SECOND,
    INTRODUCTIONS_AT_ONCE,
    LIFETIME,
    MOST_HOLD,
    MOST_MESSAGES,
    Introductions,
    holdBack,
)
from punchd.server.relaylimits import PATHS_PATIENCE, Accounts, Bound, RelayLimits, Tally
from punchd.server.relaytokens import Meeting, Member, RelayTokens
from punchd.server.sessions import Population, Session
from punchd.values.addresses import Address
from punchd.values.nat import Mapping, NatBehaviour
from punchd.values.parties import Offer
from punchd.wire.commands import Introduction, Told
from punchd.wire.preamble import Side
from tests.unit.server.pretending import (
    Counter,
    Watcher,
    lineOf,
    makeSession,
    peerID,
    private,
    public,
)


@define
class World:
    """
    The introductions of a server, and alice who calls bob.
    """

    aliceWay: float | None = None
    bobWay: float | None = None
    clock: Clock = field(factory=Clock)
    watcher: Watcher = field(factory=Watcher)
    population: Population = field(factory=Population)
    introductions: Introductions = field(init=False)
    alice: Session = field(init=False)
    bob: Session = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.introductions = Introductions(self.clock, Counter(), self.population, self.watcher)
        self.alice = self.arrive(1, name="alice", oneWay=self.aliceWay)
        self.bob = self.arrive(2, name="bob", oneWay=self.bobWay, accepts=frozenset({peerID(1)}))

    def arrive(self, number: int, **arguments: Any) -> Session:
        session = makeSession(self.clock, number, **arguments)
        self.population.arrive(session)
        return session

    def introduce(
        self,
        caller: Session | None = None,
        number: int = 2,
        reflexive: Address | None = None,
        offer: Offer | None = None,
    ) -> Deferred[dict[str, Any]]:
        who = caller or self.alice
        return self.introductions.introduce(
            who, peerID(number), reflexive or who.observed, offer or who.offer
        )

    def introduced(self, **arguments: Any) -> dict[str, Any]:
        answers: list[dict[str, Any]] = []
        self.introduce(**arguments).addCallback(answers.append)
        (answer,) = answers
        return answer


def test_eachIsToldTheOthersAddressAndItsOwn() -> None:
    world = World()
    answer = world.introduced()
    (told,) = lineOf(world.bob).heard(Introduction)
    assert (answer["own"], answer["reflexive"]) == (public(1), public(2))
    assert (told["own"], told["reflexive"]) == (public(2), public(1))
    assert told["caller"] == peerID(1)
    assert told["session"] == answer["session"]


def test_eachIsToldTheOthersOffer() -> None:
    world = World()
    world.bob.offer = Offer(NatBehaviour(Mapping.ENDPOINT_INDEPENDENT), (), (("sequential", 3),))
    answer = world.introduced(
        offer=Offer(NatBehaviour(Mapping.ADDRESS_DEPENDENT), (), (("lan", 2),))
    )
    (told,) = lineOf(world.bob).heard(Introduction)
    assert (answer["mapping"], answer["strategies"]) == (
        Mapping.ENDPOINT_INDEPENDENT,
        [("sequential", 3)],
    )
    assert (told["mapping"], told["strategies"]) == (Mapping.ADDRESS_DEPENDENT, [("lan", 2)])


def test_privateHostsStayAmongThoseWithOnePublicAddress() -> None:
    world = World()
    world.bob.offer = Offer(hosts=(private(2), public(2, 99)))
    answer = world.introduced(offer=Offer(hosts=(private(1), public(9))))
    (told,) = lineOf(world.bob).heard(Introduction)
    assert answer["hosts"] == [public(2, 99)]
    assert told["hosts"] == []


def test_privateHostsAreToldBehindOneNat() -> None:
    world = World()
    carol = world.arrive(
        3,
        accepts=frozenset({peerID(1)}),
        hosts=(private(3),),
        observed=public(1, 7000),
    )
    answer = world.introduced(number=3, offer=Offer(hosts=(private(1), public(9))))
    (told,) = lineOf(carol).heard(Introduction)
    assert answer["hosts"] == [private(3)]
    assert told["hosts"] == [private(1)]


def test_thePortOfATokenTakesThePlaceOfTheMasterConnections() -> None:
    world = World()
    answer = world.introduced(reflexive=public(1, 7777))
    (told,) = lineOf(world.bob).heard(Introduction)
    assert answer["own"] == told["reflexive"] == public(1, 7777)


@pytest.mark.parametrize("callers", [False, True])
@pytest.mark.parametrize("callees", [False, True])
def test_eachGetsATokenForTheRelayIfBothTakeIt(callers: bool, callees: bool) -> None:
    world = World()
    world.introductions.relay = relay = RelayTokens(world.clock, Counter(100))
    world.bob.offer = Offer(takesRelay=callees)
    answer = world.introduced(offer=Offer(takesRelay=callers))
    (told,) = lineOf(world.bob).heard(Introduction)
    if not (callers and callees):
        assert answer["relay"] is told["relay"] is None
        assert len(relay) == 0
        return
    one, two = relay.take(answer["relay"]), relay.take(told["relay"])
    assert one is not None
    assert two is not None
    assert one[0] is two[0]
    assert one[0].session == answer["session"]
    assert (one[1], two[1]) == (Side.CALLER, Side.CALLEE)


def test_whereTheRelayHasReachedALimitTheCallerIsToldForHowLong() -> None:
    world = World()
    world.introductions.relay = relay = RelayTokens(world.clock, Counter(100))
    limits = RelayLimits(bytes=Bound(1000, None))
    accounts = world.introductions.accounts = Accounts(world.clock, limits)
    tally = accounts.open(
        Meeting(b"s" * 16, (Member(peerID(2), "bob"), Member(peerID(3), "carol")))
    )
    assert isinstance(tally, Tally)
    tally.moved(1000)
    tally.close()
    world.clock.advance(3600)
    world.bob.offer = Offer(takesRelay=True)
    answer = world.introduced(offer=Offer(takesRelay=True))
    assert (answer["relay"], len(relay)) == (None, 0)
    assert "bob may have 1000 bytes relayed in 24 hours" in answer["relaylimit"]
    assert answer["relaywait"] == pytest.approx(23 * 3600, abs=1)
    world.clock.advance(23 * 3600)
    accounts.sweep()
    again = world.introduced(reflexive=public(1, 7777), offer=Offer(takesRelay=True))
    assert again["relaylimit"] is None
    assert len(relay) == 2


def test_whoTakesNoRelayIsNotToldOfItsLimits() -> None:
    world = World()
    world.introductions.relay = RelayTokens(world.clock, Counter(100))
    accounts = world.introductions.accounts = Accounts(world.clock, RelayLimits(Bound(None, 1)))
    accounts.open(Meeting(b"s" * 16, (Member(peerID(2), "bob"), Member(peerID(3), "carol"))))
    world.bob.offer = Offer(takesRelay=True)
    assert world.introduced(offer=Offer())["relaylimit"] is None
    answer = world.introduced(reflexive=public(1, 7777), offer=Offer(takesRelay=True))
    assert "1 relayed paths at a time" in answer["relaylimit"]
    assert answer["relaywait"] <= PATHS_PATIENCE + 1


def test_aServerWithoutARelayGivesNoToken() -> None:
    world = World()
    world.bob.offer = Offer(takesRelay=True)
    answer = world.introduced(offer=Offer(takesRelay=True))
    (told,) = lineOf(world.bob).heard(Introduction)
    assert answer["relay"] is told["relay"] is None
    assert answer["takesrelay"] is told["takesrelay"] is True


def refusal(world: World, **arguments: Any) -> PunchdError:
    with pytest.raises(PunchdError) as caught:
        world.introduce(**arguments)
    return caught.value


def test_whoIsAwayAndWhoDoesNotAcceptCannotBeToldApart() -> None:
    world = World()
    world.arrive(3)
    doesNotAccept, isAway = refusal(world, number=3), refusal(world, number=4)
    assert isinstance(doesNotAccept, UnknownPeer)
    assert isinstance(isAway, UnknownPeer)
    assert str(doesNotAccept).replace(peerID(3).short, "X") == str(isAway).replace(
        peerID(4).short, "X"
    )


def test_whoDoesNotAcceptHearsNothing() -> None:
    world = World()
    carol = world.arrive(3)
    refusal(world, number=3)
    assert lineOf(carol).sent == []


def test_theTextSaysWhatTheCalleesOwnerCanDo() -> None:
    assert f"punchd trust NAME {peerID(1)}" in str(refusal(World(), number=4))


def test_aPeerIsNotIntroducedToItself() -> None:
    world = World()
    world.alice.accepts = frozenset({peerID(1)})
    assert isinstance(refusal(world, number=1), Refused)


def test_twoPortsMeetInOneIntroductionAtATime() -> None:
    world = World()
    world.alice.accepts = frozenset({peerID(2)})
    answer = world.introduced()
    assert isinstance(refusal(world), Overlapping)
    assert isinstance(refusal(world, caller=world.bob, number=1), Overlapping)
    world.introduced(reflexive=public(1, 7777))
    world.introductions.report(world.alice, answer["session"], "lan", 0.1)
    world.introduced()


def test_introductionsPerSecondAreLimited() -> None:
    world = World()
    most = int(INTRODUCTIONS_AT_ONCE)
    for port in range(most):
        number = 10 + port // int(CALLS_AT_ONCE)
        world.arrive(number, accepts=frozenset({peerID(1)}))
        world.introduced(number=number, reflexive=public(1, 1000 + port))
    error = refusal(world)
    assert isinstance(error, Refused)
    assert "a second" in str(error)
    world.clock.advance(0.1)
    world.introduced()


def test_oneCallerLeavesPlacesToOthers() -> None:
    world = World()
    carol = world.arrive(3)
    world.bob.accepts = frozenset({peerID(1), peerID(3)})
    for port in range(int(CALLS_AT_ONCE)):
        world.introduced(reflexive=public(1, 1000 + port))
    error = refusal(world)
    assert isinstance(error, Refused)
    assert "to one peer" in str(error)
    assert CALLS_AT_ONCE < CALL_BURST
    assert CALLS_PER_SECOND < CALL_RATE
    world.introduced(caller=carol)
    world.clock.advance(1 / CALLS_PER_SECOND)
    world.introduced()


class TestTheGo:
    def times(self, aliceWay: float | None, bobWay: float | None) -> tuple[float, float]:
        """
        When it is sent to the caller, and to the callee.
        """
        world = World(aliceWay, bobWay)
        answered: list[float] = []
        world.introduce().addCallback(lambda answer: answered.append(world.clock.seconds()))
        world.clock.pump([0.001] * 3000)
        ((told, *_),) = lineOf(world.bob).sent
        return answered[0], told

    @pytest.mark.parametrize(
        ("aliceWay", "bobWay"), [(0.01, 0.09), (0.09, 0.01), (0.05, 0.05), (0.0, 0.2)]
    )
    def test_bothHearItAtOneMoment(self, aliceWay: float, bobWay: float) -> None:
        answered, told = self.times(aliceWay, bobWay)
        assert answered + aliceWay == pytest.approx(told + bobWay, abs=0.002)
        assert min(answered, told) == 0

    def test_nobodyIsHeldBackLong(self) -> None:
        answered, told = self.times(0.01, 30.0)
        assert answered == pytest.approx(MOST_HOLD, abs=0.002)
        assert told == 0

    @pytest.mark.parametrize(("aliceWay", "bobWay"), [(None, 0.1), (0.1, None), (None, None)])
    def test_nobodyIsHeldBackWhileAWayIsUnknown(
        self, aliceWay: float | None, bobWay: float | None
    ) -> None:
        assert self.times(aliceWay, bobWay) == (0, 0)

    @given(st.floats(0, 100), st.floats(0, 100))
    def test_onlyTheNearerOneIsHeldBack(self, wayToCaller: float, wayToCallee: float) -> None:
        caller, callee = holdBack(wayToCaller, wayToCallee)
        assert 0 in (caller, callee)
        assert 0 <= caller <= MOST_HOLD
        assert 0 <= callee <= MOST_HOLD
        assert (caller > 0) == (wayToCaller < wayToCallee)

    def test_theWatcherHearsOfIt(self) -> None:
        world = World(0.02, 0.01)
        world.introduce()
        assert world.watcher.steps == [
            "tells alice bob's address 198.51.100.2:5000 and bob alice's 198.51.100.1:5000; "
            "GO held back 10 ms for bob"
        ]

    def test_aCalleeThatGoesWhileTheCallerWaitsIsUnknown(self) -> None:
        world = World(0.01, 0.5)
        errors: list[Failure] = []
        world.introduce().addErrback(errors.append)
        world.introductions.gone(world.bob)
        assert errors[0].check(UnknownPeer)
        assert not world.clock.getDelayedCalls()

    def test_aCalleeHeldBackDoesNotHearOfACallerThatHasGone(self) -> None:
        world = World(0.5, 0.01)
        world.introduce()
        world.introductions.gone(world.alice)
        world.clock.advance(1)
        assert lineOf(world.bob).sent == []
        assert not world.clock.getDelayedCalls()

    def test_aMessageComesAfterIt(self) -> None:
        world = World(0.5, 0.01)
        answers: list[dict[str, Any]] = []
        world.introduce().addCallback(answers.append)
        world.introductions.tell(world.alice, answers[0]["session"], "lan", b"early", None)
        world.clock.advance(1)
        assert [command for _, command, _ in lineOf(world.bob).sent] == [Introduction, Told]

    def test_aMessageComesAfterTheAnswerToo(self) -> None:
        world = World(0.01, 0.5)
        order: list[str] = []
        world.introduce().addCallback(lambda answer: order.append("answer"))
        (told,) = lineOf(world.bob).heard(Introduction)
        world.introductions.tell(world.bob, told["session"], "lan", b"early", None)
        order += ["told" for _ in lineOf(world.alice).heard(Told)]
        assert order == ["answer", "told"]


class TestMessages:
    def test_theyGoBothWaysInOrder(self) -> None:
        world = World()
        session = world.introduced()["session"]
        for body in (b"1", b"2"):
            world.introductions.tell(world.alice, session, "lan", body, None)
        world.introductions.tell(world.bob, session, "lan", b"3", public(2, 7000))
        assert [told["body"] for told in lineOf(world.bob).heard(Told)] == [b"1", b"2"]
        assert lineOf(world.alice).heard(Told) == [
            {"session": session, "strategy": "lan", "body": b"3", "observed": public(2, 7000)}
        ]

    def test_outsidersTellNothing(self) -> None:
        world = World()
        session = world.introduced()["session"]
        with pytest.raises(Refused):
            world.introductions.tell(world.arrive(3), session, "lan", b"", None)

    def test_theyAreLimited(self) -> None:
        world = World()
        session = world.introduced()["session"]
        for number in range(MOST_MESSAGES):
            teller = world.bob if number % 2 else world.alice
            world.introductions.tell(teller, session, "lan", b"", None)
        with pytest.raises(Refused):
            world.introductions.tell(world.alice, session, "lan", b"", None)

    def test_theyEndWithTheIntroduction(self) -> None:
        world = World()
        session = world.introduced()["session"]
        world.introductions.report(world.alice, session, None, 2.0)
        with pytest.raises(Refused):
            world.introductions.tell(world.bob, session, "lan", b"", None)


class TestTheEnd:
    def test_aReportIsTold(self) -> None:
        world = World()
        session = world.introduced()["session"]
        world.introductions.report(world.alice, session, "lan", 0.25)
        assert world.watcher.steps[-1] == "alice reports: lan connected after 0.250 s"
        assert len(world.introductions) == 0

    def test_onlyTheCallerReports(self) -> None:
        world = World()
        session = world.introduced()["session"]
        with pytest.raises(Refused):
            world.introductions.report(world.bob, session, "lan", 0.25)

    def test_timeEndsIt(self) -> None:
        world = World()
        world.introduced()
        world.clock.advance(LIFETIME - 1)
        world.introductions.sweep()
        assert len(world.introductions) == 1
        world.clock.advance(1)
        world.introductions.sweep()
        assert len(world.introductions) == 0

    @pytest.mark.parametrize("number", [1, 2])
    def test_itEndsWithEitherSide(self, number: int) -> None:
        world = World()
        world.introduced()
        gone = world.population.get(peerID(number))
        assert gone is not None
        world.introductions.gone(gone)
        assert len(world.introductions) == 0
        assert world.watcher.steps[-1] == f"{gone.name} is gone"

    def test_nothingIsLeftOfIt(self) -> None:
        world = World(0.1, 0.3)
        errors: list[Failure] = []
        world.introduce().addErrback(errors.append)
        world.introduce(reflexive=public(1, 7777)).addErrback(errors.append)
        world.introductions.stop()
        assert not world.introductions._byPeer
        assert not world.introductions._byPair
        assert not world.clock.getDelayedCalls()

    def test_aCalleeThatDeclinesIsNoted(self) -> None:
        world = World()
        world.introduced()
        lineOf(world.bob).answers[0].errback(Failure(Refused("not now")))
        assert world.watcher.steps[-1] == "bob did not take it: not now"

    def test_anAnswerAfterTheEndIsNobodysBusiness(self) -> None:
        world = World()
        session = world.introduced()["session"]
        world.introductions.report(world.alice, session, "lan", 0.25)
        lineOf(world.bob).answers[0].errback(Failure(Refused("not now")))
        assert "not now" not in world.watcher.steps[-1]
