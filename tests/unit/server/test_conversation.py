"""
Tests for L{punchd.server.conversation}.
"""

from typing import Any

import pytest
from attrs import define, evolve, field
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.protocols import amp
from twisted.python.failure import Failure
from zope.interface import implementer

from punchd.errors import ProtocolViolation, PunchdError, Refused, Unreachable
from punchd.interfaces import IRegistry
from punchd.server.conversation import LOGIN_PATIENCE, Conversation, Exchange, Stage
from punchd.server.dialling import Dialling
from punchd.server.introductions import Introductions
from punchd.server.limits import Complaints
from punchd.server.observations import LIFETIME, Observations
from punchd.server.registry.memory import MemoryRegistry
from punchd.server.sessions import SILENCE, Population, Session
from punchd.values.addresses import Address, makeAddress
from punchd.values.peers import PeerID
from punchd.values.probes import Answer, Finding
from punchd.wire.commands import (
    ERRORS,
    FATAL,
    MOST_TOKENS,
    Assist,
    DialBack,
    Farewell,
    Hello,
    Introduce,
    Introduction,
    Ping,
    Prove,
    Report,
    Tell,
    Tokens,
    Told,
    Update,
)
from tests.unit.server.pretending import (
    Counter,
    Journal,
    PretendedLine,
    PretendedProber,
    Watcher,
    peerID,
    private,
    public,
)


@implementer(IRegistry)
@define
class SlowRegistry:
    """
    Answers when told.
    """

    claims: list[Deferred[None]] = field(factory=list)

    def claim(self, name: str, peerID: PeerID) -> Deferred[None]:
        self.claims.append(Deferred())
        return self.claims[-1]

    def owner(self, name: str) -> Deferred[PeerID | None]:
        return succeed(None)

    def close(self) -> Deferred[None]:
        return succeed(None)


@define
class World:
    """
    A server without sockets.
    """

    registry: Any = field(factory=MemoryRegistry)
    clock: Clock = field(factory=Clock)
    watcher: Watcher = field(factory=Watcher)
    journal: Journal = field(factory=Journal)
    prober: PretendedProber = field(factory=PretendedProber)
    exchange: Exchange = field(init=False)

    def __attrs_post_init__(self) -> None:
        population = Population()
        self.exchange = Exchange(
            self.clock,
            self.registry,
            self.watcher,
            Complaints(Logger(observer=self.journal)),
            population,
            Introductions(self.clock, Counter(), population, self.watcher),
            Observations(self.clock, Counter()),
            Dialling(self.clock, Counter(), self.prober),
            [Assist(None, 7762)],
        )

    def connect(self, number: int, observed: Address | None = None) -> Conversation:
        line = PretendedLine(self.clock)
        conversation = Conversation(self.exchange, line, observed or public(number))
        conversation.peerID = peerID(number)
        return conversation

    def logIn(self, number: int, name: str = "", accepts: tuple[int, ...] = ()) -> Conversation:
        conversation = self.connect(number)
        answers: list[Any] = []
        hello(conversation, name or f"peer{number}", accepts).addCallback(answers.append)
        assert answers
        self.clock.advance(0)
        return conversation


def ask(
    conversation: Conversation, command: type[amp.Command], **arguments: Any
) -> Deferred[dict[str, Any]]:
    """
    Send a command as if over the wire, and return what comes back.
    """
    box = command.makeArguments(arguments, None)
    answered: Deferred[Any] = conversation.locateResponder(command.commandName)(box)
    return answered.addCallback(lambda answer: command.parseResponse(answer, None))


def hello(
    conversation: Conversation,
    name: str = "alice",
    accepts: tuple[int, ...] = (),
    hosts: tuple[Address, ...] = (),
    version: int = 1,
    oldest: int = 1,
) -> Deferred[dict[str, Any]]:
    return ask(
        conversation,
        Hello,
        version=version,
        oldest=oldest,
        name=name,
        accepts=frozenset(peerID(number) for number in accepts),
        hosts=list(hosts),
        mapping=None,
        strategies=[("lan", 1)],
    )


def answerOf(answered: Deferred[Any]) -> Any:
    answers: list[Any] = []
    answered.addCallback(answers.append)
    (answer,) = answers
    return answer


def errorOf(answered: Deferred[Any]) -> type[Exception]:
    """
    Which of punchd's errors came back.
    """
    byCode = {code: error for error, code in ERRORS.items()}
    return byCode[failureOf(answered).errorCode]


def failureOf(answered: Deferred[Any]) -> amp.RemoteAmpError:
    failures: list[Failure] = []
    answered.addErrback(failures.append)
    (failure,) = failures
    assert isinstance(failure.value, amp.RemoteAmpError)
    return failure.value


def lineOf(conversation: Conversation) -> PretendedLine:
    assert isinstance(conversation.line, PretendedLine)
    return conversation.line


class TestHello:
    def test_itIsAnsweredWithWhatThePeerNeeds(self) -> None:
        world = World()
        conversation = world.connect(1)
        assert answerOf(hello(conversation)) == {
            "version": 1,
            "observed": public(1),
            "assists": [Assist(None, 7762)],
            "relay": None,
            "zone": None,
            "ttl": None,
        }
        assert lineOf(conversation).isLoggedIn

    def test_versionsWithoutACommonOneAreNamed(self) -> None:
        world = World()
        error = failureOf(hello(world.connect(1), version=9, oldest=8))
        assert error.errorCode in FATAL.values()
        assert "1 to 1" in error.description
        assert "8 to 9" in error.description

    def test_aNameOfAnotherKeyIsRefused(self) -> None:
        world = World()
        world.logIn(1, "bob")
        conversation = world.connect(2)
        said = failureOf(hello(conversation, "bob")).description
        assert said.startswith("the name 'bob' belongs to another key on this server: choose")
        assert world.exchange.population.get(peerID(2)) is None

    def test_afterARefusalAnotherNameMayBeTried(self) -> None:
        world = World()
        world.logIn(1, "bob")
        conversation = world.connect(2)
        errorOf(hello(conversation, "bob"))
        answerOf(hello(conversation, "carol"))
        assert conversation.stage is Stage.REGISTERED

    def test_oneKeyMayHaveSeveralNames(self) -> None:
        world = World()
        world.logIn(1, "bob")
        world.logIn(1, "robert")
        world.logIn(1, "bob")
        assert len(world.exchange.population) == 1

    def test_aSecondLoginReplacesTheFirstAtOnce(self) -> None:
        world = World()
        first = world.logIn(1)
        second = world.logIn(1)
        assert lineOf(first).closed == ["another connection of the same key has taken over"]
        assert world.exchange.population.get(peerID(1)) is second.session

    def test_theEndOfTheFirstDoesNotEndTheSecond(self) -> None:
        world = World()
        first = world.logIn(1)
        second = world.logIn(1)
        first.end("replaced")
        assert world.exchange.population.get(peerID(1)) is second.session

    def test_aSecondHelloIsAViolation(self) -> None:
        world = World()
        assert errorOf(hello(world.logIn(1))).__name__ == "ProtocolViolation"

    def test_aHelloWhileAnotherIsUnderWayIsAViolation(self) -> None:
        registry = SlowRegistry()
        conversation = World(registry).connect(1)
        hello(conversation)
        assert errorOf(hello(conversation)).__name__ == "ProtocolViolation"

    def test_aBrokenRegistryIsToldToThePeerAndToTheOperator(self) -> None:
        registry = SlowRegistry()
        world = World(registry)
        conversation = world.connect(1)
        answered = hello(conversation)
        error = Unreachable("the registry cannot")
        error.__cause__ = OSError("no space left on device")
        registry.claims[0].errback(Failure(error))
        assert errorOf(answered) is Unreachable
        assert world.journal.texts == ["the registry does not work: no space left on device"]
        assert conversation.stage is Stage.STRANGER

    def test_aConnectionLostMeanwhileIsNotRegistered(self) -> None:
        registry = SlowRegistry()
        world = World(registry)
        conversation = world.connect(1)
        answered = hello(conversation)
        conversation.end("lost")
        registry.claims[0].callback(None)
        assert errorOf(answered) is Unreachable
        assert len(world.exchange.population) == 0

    def test_aConnectionLostMeanwhileStaysOverWhenTheRegistryFails(self) -> None:
        registry = SlowRegistry()
        conversation = World(registry).connect(1)
        answered = hello(conversation)
        conversation.end("lost")
        registry.claims[0].errback(Failure(Unreachable("no")))
        errorOf(answered)
        assert conversation.stage is Stage.OVER

    def test_theObserverHearsOfIt(self) -> None:
        world = World()
        world.logIn(1, "alice")
        world.logIn(1, "alice").end("silent")
        assert world.watcher.steps == [
            "alice (010101010101…) logs in from 198.51.100.1:5000",
            "alice (010101010101…) logs in from 198.51.100.1:5000, instead of 198.51.100.1:5000",
            "alice is gone: silent",
        ]

    def test_aPingFollowsTheAnswer(self) -> None:
        world = World()
        conversation = world.connect(1)
        hello(conversation)
        assert lineOf(conversation).heard(Ping) == []
        world.clock.advance(0)
        assert lineOf(conversation).heard(Ping) == [{}]


class TestBeforeHello:
    @pytest.mark.parametrize(
        ("command", "arguments"),
        [
            (Ping, {}),
            (Tokens, {"count": 1}),
            (Update, {"accepts": frozenset(), "hosts": [], "strategies": []}),
            (Introduce, {"peer": peerID(2), "hosts": [], "strategies": []}),
            (Tell, {"session": bytes(16), "strategy": "lan", "body": b""}),
            (Report, {"session": bytes(16), "seconds": 1.0}),
        ],
    )
    def test_everyOtherCommandIsAViolation(
        self, command: type[amp.Command], arguments: dict[str, Any]
    ) -> None:
        conversation = World().connect(1)
        assert errorOf(ask(conversation, command, **arguments)).__name__ == "ProtocolViolation"

    def test_patienceEnds(self) -> None:
        conversation = World().connect(1)
        assert conversation.lateness(LOGIN_PATIENCE - 0.1) is None
        assert "not logged in" in (conversation.lateness(LOGIN_PATIENCE) or "")

    def test_patienceEndsForASlowRegistryToo(self) -> None:
        conversation = World(SlowRegistry()).connect(1)
        hello(conversation)
        assert conversation.lateness(LOGIN_PATIENCE) is not None


class TestAfterTheEnd:
    def test_commandsAreRefused(self) -> None:
        conversation = World().logIn(1)
        conversation.end("replaced")
        assert errorOf(ask(conversation, Ping)) is Unreachable

    def test_nothingIsDue(self) -> None:
        conversation = World().logIn(1)
        conversation.end("replaced")
        conversation.ping()
        assert conversation.lateness(1000) is None

    def test_itEndsOnce(self) -> None:
        world = World()
        conversation = world.logIn(1)
        conversation.end("a")
        conversation.end("b")
        assert [step for step in world.watcher.steps if "gone" in step] == ["peer1 is gone: a"]

    def test_tokensAndIntroductionsEndWithIt(self) -> None:
        world = World()
        alice, bob = world.logIn(1), world.logIn(2, accepts=(1,))
        answerOf(ask(alice, Introduce, peer=peerID(2), hosts=[], strategies=[]))
        answerOf(ask(bob, Tokens, count=2))
        bob.end("lost")
        assert len(world.exchange.introductions) == 0
        assert not world.exchange.observations._byToken


class TestALiveSession:
    def test_silenceEndsIt(self) -> None:
        world = World()
        conversation = world.logIn(1)
        lineOf(conversation).answers[0].callback({})
        world.clock.advance(SILENCE - 1)
        conversation.heard()
        assert conversation.lateness(world.clock.seconds() + 1) is None
        assert conversation.lateness(world.clock.seconds() + SILENCE) is not None

    def test_theAnswerToAPingTellsTheWay(self) -> None:
        world = World()
        conversation = world.logIn(1)
        world.clock.advance(0.08)
        lineOf(conversation).answers[0].callback({})
        assert conversation.session is not None
        assert conversation.session.oneWay == pytest.approx(0.04)

    def test_aPingThatFailsIsNoError(self) -> None:
        conversation = World().logIn(1)
        lineOf(conversation).answers[0].errback(Failure(Unreachable("lost")))

    def test_aLateAnswerAfterTheEndIsNoError(self) -> None:
        conversation = World().logIn(1)
        conversation.end("lost")
        lineOf(conversation).answers[0].callback({})

    def test_itAnswersPings(self) -> None:
        assert answerOf(ask(World().logIn(1), Ping)) == {}

    def test_anUpdateChangesTheOfferAndWhoIsAccepted(self) -> None:
        world = World()
        alice, bob = world.logIn(1), world.logIn(2)
        answerOf(
            ask(
                bob,
                Update,
                accepts=frozenset({peerID(1)}),
                hosts=[public(2, 9), private(2), public(3)],
                mapping=None,
                strategies=[("sequential", 2)],
            )
        )
        answer = answerOf(ask(alice, Introduce, peer=peerID(2), hosts=[], strategies=[]))
        assert answer["strategies"] == [("sequential", 2)]
        assert answer["hosts"] == [public(2, 9)]

    @pytest.mark.parametrize(("count", "given"), [(1, 1), (0, 0), (-5, 0), (99, MOST_TOKENS)])
    def test_aFewTokensAreGivenAtATime(self, count: int, given: int) -> None:
        answer = answerOf(ask(World().logIn(1), Tokens, count=count))
        assert len(set(answer["tokens"])) == given

    def test_aTokenNamesAnotherPortForAnIntroduction(self) -> None:
        world = World()
        alice, bob = world.logIn(1), world.logIn(2, accepts=(1,))
        (token,) = answerOf(ask(alice, Tokens, count=1))["tokens"]
        world.exchange.observations.show(token, public(1, 7777))
        answer = answerOf(
            ask(alice, Introduce, peer=peerID(2), token=token, hosts=[], strategies=[])
        )
        assert answer["own"] == public(1, 7777)
        (told,) = lineOf(bob).heard(Introduction)
        assert told["reflexive"] == public(1, 7777)

    def test_anothersTokenIsRefused(self) -> None:
        world = World()
        mallory, bob = world.logIn(1), world.logIn(2, accepts=(1,))
        (token,) = answerOf(ask(bob, Tokens, count=1))["tokens"]
        world.exchange.observations.show(token, public(2, 7777))
        error = errorOf(
            ask(mallory, Introduce, peer=peerID(2), token=token, hosts=[], strategies=[])
        )
        assert error.__name__ == "Refused"
        assert lineOf(bob).heard(Introduction) == []

    def test_aMessageCarriesTheAddressOfItsToken(self) -> None:
        world = World()
        alice, bob = world.logIn(1), world.logIn(2, accepts=(1,))
        session = answerOf(ask(alice, Introduce, peer=peerID(2), hosts=[], strategies=[]))[
            "session"
        ]
        (token,) = answerOf(ask(bob, Tokens, count=1))["tokens"]
        world.exchange.observations.show(token, public(2, 7777))
        answerOf(ask(bob, Tell, session=session, strategy="lan", body=b"hi", token=token))
        assert [told["observed"] for told in lineOf(alice).heard(Told)] == [public(2, 7777)]

    def test_aReportEndsTheIntroduction(self) -> None:
        world = World()
        alice, _ = world.logIn(1), world.logIn(2, accepts=(1,))
        session = answerOf(ask(alice, Introduce, peer=peerID(2), hosts=[], strategies=[]))[
            "session"
        ]
        answerOf(ask(alice, Report, session=session, strategy=None, seconds=float("nan")))
        assert world.watcher.steps[-1].startswith("peer1 reports: no strategy connected")
        assert errorOf(ask(alice, Report, session=session, seconds=1.0)).__name__ == "Refused"


SIXTH = makeAddress("2001:db8::7", 4000)


class TestIPv6:
    """
    The IPv6 candidates of offers: by the token of a port that the server has observed.
    """

    def seen(self, world: World, peer: Conversation, address: Address = SIXTH) -> bytes:
        """
        A token that a peer has shown the assist service from there.
        """
        (token,) = answerOf(ask(peer, Tokens, count=1))["tokens"]
        world.exchange.observations.show(token, address)
        assert isinstance(token, bytes)
        return token

    def update(self, peer: Conversation, token: bytes | None, accepts: tuple[int, ...] = ()) -> Any:
        said = {"accepts": frozenset(map(peerID, accepts)), "hosts": [], "strategies": []}
        return ask(peer, Update, ipv6token=token, **said)

    def told(self, caller: Conversation, token: bytes | None = None) -> dict[str, Any]:
        asked = ask(caller, Introduce, peer=peerID(2), ipv6token=token, hosts=[], strategies=[])
        answer: dict[str, Any] = answerOf(asked)
        return answer

    def test_bothAreToldWhatTheServerObserved(self) -> None:
        world = World()
        alice, bob = world.logIn(1), world.logIn(2)
        answerOf(self.update(bob, self.seen(world, bob), (1,)))
        other = makeAddress("2001:db8::9", 4001)
        answer = self.told(alice, self.seen(world, alice, other))
        assert (answer["ipv6"], answer["ownipv6"]) == (SIXTH, other)
        (told,) = lineOf(bob).heard(Introduction)
        assert (told["ipv6"], told["ownipv6"]) == (other, SIXTH)

    def test_itIsKeptAsLongAsThePeerNamesIt(self) -> None:
        world = World()
        alice, bob = world.logIn(1), world.logIn(2)
        token = self.seen(world, bob)
        answerOf(self.update(bob, token, (1,)))
        world.clock.advance(LIFETIME + 1)
        world.exchange.observations.forget(bob.session)
        answerOf(self.update(bob, token, (1,)))
        assert self.told(alice)["ipv6"] == SIXTH
        answerOf(self.update(bob, None, (1,)))

    def test_theCallerMayNameItsOwnAgain(self) -> None:
        world = World()
        alice, _ = world.logIn(1), world.logIn(2, accepts=(1,))
        token = self.seen(world, alice)
        answerOf(self.update(alice, token))
        world.exchange.observations.forget(alice.session)
        assert self.told(alice, token)["ownipv6"] == SIXTH

    def test_whoNamesNoneAnyMoreHasNone(self) -> None:
        world = World()
        alice, bob = world.logIn(1), world.logIn(2)
        answerOf(self.update(bob, self.seen(world, bob), (1,)))
        answerOf(self.update(bob, None, (1,)))
        assert self.told(alice)["ipv6"] is None

    @pytest.mark.parametrize(
        "address", [public(1), makeAddress("fd00::7", 4000), makeAddress("::1", 4000)]
    )
    def test_onlyAGlobalOneIsTold(self, address: Address) -> None:
        world = World()
        alice, bob = world.logIn(1), world.logIn(2)
        answerOf(self.update(bob, self.seen(world, bob, address), (1,)))
        assert self.told(alice)["ipv6"] is None

    def test_anothersTokenIsRefused(self) -> None:
        world = World()
        alice, bob = world.logIn(1), world.logIn(2)
        token = self.seen(world, alice)
        assert errorOf(self.update(bob, token, (1,))).__name__ == "Refused"


def test_aRegistryThatFailsOtherwiseIsABugThatIsSeen() -> None:
    class Broken(MemoryRegistry):
        def claim(self, name: str, peerID: PeerID) -> Deferred[None]:
            return fail(ZeroDivisionError())

    failures: list[Failure] = []
    hello(World(Broken()).connect(1)).addErrback(failures.append)
    assert failures[0].check(ZeroDivisionError)
    assert not failures[0].check(PunchdError)


def test_farewellWantsNoAnswer() -> None:
    assert not Farewell.requiresAnswer


def shown(world: World, conversation: Conversation, port: int) -> bytes:
    """
    The token of a port that the assist service has seen.
    """
    token = world.exchange.observations.issue(conversation.session)
    world.exchange.observations.show(token, public(1, port))
    return token


@pytest.mark.parametrize(("source", "here"), [(0, "203.0.113.1"), (1, "203.0.113.2")])
def test_aPeerIsDialledBackFromWhereItAsks(source: int, here: str) -> None:
    """
    An assist service without an address of its own is where the master connection is.
    """
    world = World()
    world.exchange.assists.append(Assist("203.0.113.2", 7763))
    alice = world.logIn(1, "alice")
    answers: list[Any] = []
    token = shown(world, alice, 4000)
    ask(alice, DialBack, token=token, source=source).addCallback(answers.append)
    assert world.prober.probes == [(public(1, 4000), here)]
    world.prober.found[0].callback(Finding(Answer.RESET))
    assert answers == [{"answer": Answer.RESET}]


@pytest.mark.parametrize("source", [-1, 1, 2**40])
def test_nobodyIsDialledFromNowhere(source: int) -> None:
    world = World()
    alice = world.logIn(1, "alice")
    token = shown(world, alice, 4000)
    assert errorOf(ask(alice, DialBack, token=token, source=source)) is Refused
    assert world.prober.probes == []


def test_onlyOnesOwnPortIsDialled() -> None:
    world = World()
    alice, bob = world.logIn(1, "alice"), world.logIn(2, "bob")
    token = shown(world, alice, 4000)
    assert errorOf(ask(bob, DialBack, token=token, source=0)) is Refused
    assert errorOf(ask(alice, DialBack, token=bytes(16), source=0)) is Refused
    assert world.prober.probes == []


def test_aPortWhoseConnectionIsClosedIsNotDialled() -> None:
    world = World()
    alice = world.logIn(1, "alice")
    token = world.exchange.observations.issue(alice.session)
    observation = world.exchange.observations.show(token, public(1, 4000))
    assert observation is not None
    observation.isOpen = False
    assert errorOf(ask(alice, DialBack, token=token, source=0)) is Refused
    assert world.prober.probes == []


@pytest.mark.parametrize("command", [DialBack, Prove])
def test_whoIsNotLoggedInIsNotDialled(command: type[amp.Command]) -> None:
    world = World()
    stranger = world.connect(1)
    arguments: dict[str, Any] = {"token": bytes(16), "source": 0}
    if command is Prove:
        arguments = {"port": 4000, "secret": bytes(32)}
    assert errorOf(ask(stranger, command, **arguments)) is ProtocolViolation
    assert world.prober.probes == []


@define
class Book:
    """
    Remembers whose facts have changed.
    """

    changes: list[str] = field(factory=list)

    def arrived(self, session: Session) -> None:
        pass

    def changed(self, session: Session) -> None:
        self.changes.append(f"{session.listing.hasAddress} {len(session.proven)}")

    def left(self, session: Session) -> None:
        pass


def test_whoWatchesHearsOfAnUpdate() -> None:
    world, book = World(), Book()
    world.exchange.population.watchers.append(book)
    alice = world.logIn(1, "alice")
    said: dict[str, Any] = {"accepts": frozenset(), "hosts": [], "strategies": []}
    answerOf(ask(alice, Update, listed=True, **said))
    assert book.changes == ["True 0"]


def test_whoWatchesHearsOfAProof() -> None:
    """
    When the answer goes out, and whatever it is.
    """
    world, book = World(), Book()
    proving: Deferred[bool] = Deferred()

    class Proving(Dialling):
        def prove(self, session: Session, port: int, secret: bytes) -> Deferred[bool]:
            session.proven = frozenset([public(1, port)])
            return proving

    dialling = Proving(world.clock, Counter(), world.prober)
    world.exchange = evolve(world.exchange, dialling=dialling)
    world.exchange.population.watchers.append(book)
    answers: list[Any] = []
    ask(world.logIn(1), Prove, port=4000, secret=bytes(32)).addCallback(answers.append)
    assert book.changes == []
    proving.callback(True)
    assert answers == [{"proven": True}]
    assert book.changes == ["False 1"]
