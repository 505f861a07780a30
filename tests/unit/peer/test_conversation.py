"""
Tests for L{punchd.peer.conversation}: over real TLS in memory, with a server of the test's.
"""

from typing import Any

import pytest
from attrs import evolve
from twisted.protocols import amp

from punchd.errors import (
    IncompatibleVersions,
    Limited,
    NotTrusted,
    ProtocolViolation,
    PunchdError,
    Refused,
    Unreachable,
)
from punchd.peer.conversation import (
    CALL_BURST,
    CALL_RATE,
    LOGIN_DEADLINE,
)
from punchd.peer.pulse import (
    DOUBTFUL,
    LEAST_PATIENCE,
    PATIENT_TRIPS,
    PING_INTERVAL,
    PING_PATIENCE,
)
from punchd.values.naming import Listing
from punchd.values.parties import Party
from punchd.values.peers import PeerID
from punchd.wire.commands import Assist, Farewell, Relay, RelayNote, Tokens
from punchd.wire.limiting import limitArguments
from tests.unit.net.memory import HERE, THERE
from tests.unit.peer.servers import GREETING, ServerSide, Spoken

LISTED = Listing(True)

# Logging in.


def test_thePeerSaysWhoItIs() -> None:
    spoken = Spoken()
    what, said = spoken.side.asked[0]
    assert what == "hello"
    assert (said["name"], said["accepts"]) == (GREETING.name, GREETING.accepts)
    assert (said["version"], said["oldest"]) == (1, 1)
    assert (said["hosts"], said["strategies"]) == ([HERE], [("lan", 1)])
    spoken.end()


def test_theWelcomeSaysHowTheServerSeesUs() -> None:
    spoken = Spoken()
    (welcome,) = spoken.welcomes
    assert welcome.observed == HERE
    assert welcome.assists == (Assist(None, 7762), Assist("203.0.113.50", 7763))
    spoken.end()


@pytest.mark.parametrize("relay", [None, Relay(None, 7764), Relay("203.0.113.50", 443)])
def test_theWelcomeSaysWhereTheRelayIs(relay: Relay | None) -> None:
    side = ServerSide()
    side.greeting["relay"] = relay
    spoken = Spoken(side=side)
    (welcome,) = spoken.welcomes
    assert welcome.relay == relay
    spoken.end()


def test_nothingOfOursReachesAServerWithAnotherKey() -> None:
    def judge(certificate: object, chainIsTrusted: bool) -> None:
        raise NotTrusted("the server has another key")

    spoken = Spoken(judge=judge)
    assert spoken.side.asked == []
    assert [str(error) for error in spoken.errors] == ["the server has another key"]
    assert isinstance(spoken.errors[0], NotTrusted)
    assert spoken.clock.getDelayedCalls() == []


def test_aServerOfAnotherProtocolIsRefused() -> None:
    spoken = Spoken(alpn=b"h2")
    assert spoken.welcomes == []
    (error,) = spoken.errors
    assert isinstance(error, PunchdError)
    assert "not a punchd server's master service" in str(error)
    spoken.end()


@pytest.mark.parametrize(
    "error",
    [
        Refused("the name 'alice' is taken"),
        Unreachable("the registry does not work"),
        IncompatibleVersions("update the older one"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whyTheServerSaysNoIsHeard(error: PunchdError) -> None:
    side = ServerSide()
    side.greeting = error
    spoken = Spoken(side=side)
    (heard,) = spoken.errors
    assert (type(heard), str(heard)) == (type(error), str(error))
    if spoken.wire.isOpen:
        spoken.end()


def test_aServerThatChoosesAVersionOfItsOwnIsRefused() -> None:
    side = ServerSide()
    side.greeting["version"] = 0
    spoken = Spoken(side=side)
    (error,) = spoken.errors
    assert isinstance(error, IncompatibleVersions)
    spoken.end()


def test_aServerThatDoesNotAnswerIsGivenUp() -> None:
    spoken = Spoken(greet=False)
    spoken.clock.advance(LOGIN_DEADLINE)
    spoken.flush()
    (error,) = spoken.errors
    assert isinstance(error, Unreachable)
    assert str(error) == "the server does not answer"
    assert spoken.clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    "changes",
    [{"observed": None}, {"version": None}, {"assists": None}],
    ids=["no address", "no version", "no assists"],
)
def test_aWelcomeWithoutWhatItNeedsIsAnErrorOfOurs(changes: dict[str, Any]) -> None:
    spoken = Spoken(greet=False)
    # As another version of the server might answer.
    complete = spoken.side.greeting
    missing = {key: value for key, value in complete.items() if key not in changes}

    class Terse(amp.CommandLocator):
        def locateResponder(self, name: bytes) -> Any:
            box = amp.AmpBox(
                {
                    key.encode(): value
                    for key, value in {
                        "version": b"1",
                        "observed": b"\xc6\x33\x64\x01\x00\x01",
                        "assists": b"",
                    }.items()
                    if key in missing
                }
            )
            return lambda received: box

    spoken.server.locator = Terse()
    spoken.flush()
    (error,) = spoken.errors
    assert isinstance(error, PunchdError)
    if spoken.wire.isOpen:
        spoken.end()


# Living.


def test_theServerIsPingedAtOnceAndThenEachInterval() -> None:
    spoken = Spoken()
    assert [what for what, _ in spoken.side.asked] == ["hello", "ping"]
    spoken.advance(PING_INTERVAL)
    assert [what for what, _ in spoken.side.asked] == ["hello", "ping", "ping"]
    spoken.end()


def test_thePingMeasuresTheRoundTrip() -> None:
    spoken = Spoken(greet=False)
    spoken.flush()
    assert spoken.conversation._pulse.roundTrip == 0.0
    spoken.end()


def test_aPingThatIsNotAnsweredEndsTheConnection() -> None:
    spoken = Spoken()
    spoken.side.answersPings = False
    spoken.advance(PING_INTERVAL)
    spoken.advance(PING_PATIENCE)
    assert not spoken.wire.isOpen
    assert str(spoken.conversation.error) == "the server does not answer"
    assert spoken.clock.getDelayedCalls() == []


def doubted(roundTrip: float = 0.0) -> Spoken:
    """
    A conversation which is in doubt, and rightly so.
    """
    spoken = Spoken()
    spoken.conversation._pulse.roundTrip = roundTrip
    spoken.advance(1.0)
    spoken.side.answersPings = False
    before = len(spoken.side.asked)
    spoken.conversation.doubt()
    spoken.flush()
    assert len(spoken.side.asked) == before + 1
    return spoken


def isOpenAfter(spoken: Spoken, seconds: float) -> bool:
    """
    Whether the connection still is there.
    """
    spoken.advance(seconds)
    return spoken.wire.isOpen


@pytest.mark.parametrize(
    ("roundTrip", "patience"),
    [(0.0, DOUBTFUL), (0.5, 0.5 * PATIENT_TRIPS), (2.0, PING_PATIENCE)],
)
def test_inDoubtAnAnswerMustComeSoon(roundTrip: float, patience: float) -> None:
    spoken = doubted(roundTrip)
    assert isOpenAfter(spoken, patience - 0.01)
    assert not isOpenAfter(spoken, 0.01)
    assert spoken.conversation.isUrgent
    assert str(spoken.conversation.error) == "the server does not answer"


def test_whoDoubtsAgainGivesNoMoreTime() -> None:
    spoken = doubted()
    spoken.advance(1.0)
    spoken.conversation.doubt()
    spoken.advance(DOUBTFUL - 1.0)
    assert not spoken.wire.isOpen


def test_afterAnAnswerNothingIsInDoubt() -> None:
    spoken = Spoken()
    spoken.conversation.doubt()
    spoken.flush()
    assert pings(spoken, PING_INTERVAL) == 1
    spoken.side.answersPings = False
    spoken.advance(PING_INTERVAL)
    assert isOpenAfter(spoken, PING_PATIENCE - 0.01)
    assert not isOpenAfter(spoken, 0.01)
    assert not spoken.conversation.isUrgent


def named(ttl: int, listing: Listing = LISTED) -> Spoken:
    """
    A conversation of a peer with a server that has a zone, after it has said what it wants there.
    """
    side = ServerSide()
    side.greeting |= {"zone": "peers.example.org", "ttl": ttl}
    spoken = Spoken(side=side)
    assert spoken.welcomes[0].zone == "peers.example.org"
    spoken.conversation.update(evolve(GREETING, listing=listing), None)
    spoken.advance(PING_INTERVAL)
    return spoken


def pings(spoken: Spoken, seconds: float) -> int:
    """
    How many come in this time.
    """
    before = len(spoken.side.asked)
    for _ in range(int(seconds * 8)):
        spoken.advance(0.125)
    return len(spoken.side.asked) - before


@pytest.mark.parametrize(
    ("ttl", "count"), [(0, 48), (1, 48), (4, 12), (30, 4), (10**400, 4), (-(10**400), 48)]
)
def test_whomOthersLookUpIsPingedAsOftenAsTheyMay(ttl: int, count: int) -> None:
    spoken = named(ttl)
    assert pings(spoken, 12) == count
    spoken.end()


def test_whomNobodyLooksUpIsNot() -> None:
    spoken = named(1, Listing())
    assert pings(spoken, 12) == 4
    assert not spoken.conversation.isUrgent
    spoken.end()


@pytest.mark.parametrize(("ttl", "patience"), [(1, LEAST_PATIENCE), (4, 2.0), (30, PING_PATIENCE)])
def test_anAddressThatIsGoneIsNoticedSoonByWhomItMatters(ttl: int, patience: float) -> None:
    spoken = named(ttl)
    spoken.side.answersPings = False
    spoken.advance(PING_INTERVAL)
    spoken.advance(patience - 0.01)
    assert spoken.wire.isOpen or ttl == 1
    spoken.advance(0.01)
    assert not spoken.wire.isOpen
    assert spoken.conversation.isUrgent


def test_aLongWayIsNoReasonToDespair() -> None:
    spoken = named(1)
    spoken.conversation._pulse.roundTrip = 0.4
    assert spoken.conversation._pulse.pace == (0.25, 1.6)
    spoken.end()


def test_deathIsNoticedWithinSevenSeconds() -> None:
    assert PING_INTERVAL + PING_PATIENCE <= 7.0


def test_questionsUnderWayFailWithTheReason() -> None:
    spoken = Spoken()
    errors: list[object] = []
    spoken.conversation.ask(Tokens, count=1).addErrback(
        lambda failure: errors.append(failure.value)
    )
    spoken.end()
    assert [type(error) for error in errors] == [Unreachable]


def test_questionsAfterTheEndFail() -> None:
    spoken = Spoken()
    spoken.end()
    errors: list[object] = []
    spoken.conversation.ask(Tokens, count=1).addErrback(
        lambda failure: errors.append(failure.value)
    )
    assert [type(error) for error in errors] == [Unreachable]


def test_theServersReasonForTheEndIsKept() -> None:
    spoken = Spoken()
    spoken.server.callRemote(Farewell, reason="another connection has taken over")
    spoken.server.transport.loseConnection()
    spoken.flush()
    assert str(spoken.conversation.error) == (
        "the server ended the connection: another connection has taken over"
    )


def test_whoeverWaitsForTheEndHearsOfIt() -> None:
    spoken = Spoken()
    ended: list[None] = []
    spoken.conversation.whenOver().addCallback(ended.append)
    assert ended == []
    spoken.end()
    spoken.conversation.whenOver().addCallback(ended.append)
    assert ended == [None, None]


def test_closingEndsInOrder() -> None:
    spoken = Spoken()
    spoken.conversation.close()
    spoken.flush()
    assert spoken.conversation.isOver
    assert spoken.clock.getDelayedCalls() == []


def test_aServerThatSendsGarbageIsDisconnected() -> None:
    spoken = Spoken()
    spoken.server.transport.write(b"\xff" * 100)
    spoken.flush()
    assert not spoken.wire.isOpen
    assert isinstance(spoken.conversation.error, ProtocolViolation)


# Being introduced.


def test_anIntroductionIsHandedOn() -> None:
    spoken = Spoken()
    answers = spoken.introduce(reflexive=THERE)
    (call,) = spoken.listening.calls
    assert (call.session, call.caller, call.own.reflexive) == (b"s" * 16, PeerID(b"b" * 32), HERE)
    assert isinstance(call.other, Party)
    assert (call.other.reflexive, call.other.offer.strategies) == (THERE, (("lan", 1),))
    assert answers == [{}]
    spoken.end()


@pytest.mark.parametrize("token", [None, b"t" * 16])
def test_theTokenForTheRelayIsHandedOn(token: bytes | None) -> None:
    spoken = Spoken()
    spoken.introduce(relay=token)
    (call,) = spoken.listening.calls
    assert call.relay == token
    spoken.end()


def test_aLimitOfTheRelayIsHandedOn() -> None:
    spoken = Spoken()
    spoken.introduce(**limitArguments(Limited("bob may have 10 bytes", 8.5)))
    (call,) = spoken.listening.calls
    assert call.limit is not None
    assert (str(call.limit), call.limit.seconds) == ("bob may have 10 bytes", 9)
    spoken.end()


def test_whyTheRelayEndsAPathIsHandedOn() -> None:
    spoken = Spoken()
    answers: list[object] = []
    reason = "no bytes for 300 s"
    asked = spoken.server.callRemote(RelayNote, session=b"s" * 16, reason=reason, ends=True)
    asked.addCallback(answers.append)
    spoken.flush()
    assert spoken.listening.notes == [(b"s" * 16, reason, True)]
    assert answers == [{}]
    spoken.end()


def test_theListenersNoIsTheServersAnswer() -> None:
    spoken = Spoken()
    spoken.listening.refusal = Refused("this peer does not trust that one")
    (answer,) = spoken.introduce()
    assert (type(answer), str(answer)) == (Refused, "this peer does not trust that one")
    assert spoken.wire.isOpen
    spoken.end()


def test_aThousandIntroductionsASecondAreRefused() -> None:
    spoken = Spoken()
    refused = 0
    for _ in range(10):
        for _ in range(100):
            refused += isinstance(spoken.introduce()[0], Refused)
        spoken.clock.advance(0.1)
    assert len(spoken.listening.calls) <= CALL_BURST + CALL_RATE
    assert refused == 1000 - len(spoken.listening.calls)
    assert spoken.wire.isOpen
    spoken.end()


def test_aMessageOfAStrategyIsHandedOn() -> None:
    spoken = Spoken()
    spoken.tell(observed=THERE)
    spoken.tell()
    assert spoken.listening.messages == [
        (b"s" * 16, "lan", b"hello", THERE),
        (b"s" * 16, "lan", b"hello", None),
    ]
    spoken.end()
