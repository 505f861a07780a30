"""
Tests for L{punchd.peer.keeping}: how a link gets its paths, and what those are told who wait.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionLost
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from punchd.errors import Limited, NoPath, NotTrusted, PunchdError, Refused, Unreachable
from punchd.link.flow import SURVIVAL, Limits
from punchd.link.keeping import PINGS_AT_ONCE, SHARE
from punchd.link.paths import JOINING
from punchd.peer.idling import IDLE
from punchd.peer.keeping import ANSWERING, DOUBTFUL, Link
from punchd.peer.pace import (
    DIRECT_WAITS,
    LOST_WAITS,
    MOST_FLAPS,
    MOST_IN_VAIN,
    PASSING,
    PROVEN_AFTER,
    YIELDING,
)
from punchd.peer.pulse import PATIENT_TRIPS
from tests.unit.link.pairs import User
from tests.unit.link.wires import FULL
from tests.unit.peer.kept import End, Peers, twoPeers

Flush = Callable[..., list[Any]]


@pytest.fixture
def peers() -> Iterator[Peers]:
    with twoPeers() as peers:
        yield peers


def isOver(link: Link) -> bool:
    return link.session.isOver


# Who waits.


def test_whoWantsALinkLetsItBeDialled(peers: Peers) -> None:
    peers.alice.reach()
    wanted = peers.alice.dial.wanted
    assert (wanted.peer, wanted.notPunching, wanted.relaying) == ("bob", "", True)
    assert peers.alice.results == []


def test_allWhoWaitShareADial(peers: Peers) -> None:
    peers.alice.reach()
    peers.alice.reach()
    peers.connect()
    assert peers.alice.results == ["reached", "reached"]
    assert len(peers.alice.dials) == 1


def test_aLinkThatHasAPathIsThereAtOnce(peers: Peers) -> None:
    peers.linked().alice.reach()
    assert peers.alice.results == ["reached", "reached"]
    assert not peers.alice.isDialling()


def test_allWhoWaitHearWhyThereIsNoPath(peers: Peers) -> None:
    peers.alice.reach()
    peers.alice.reach()
    peers.fail(NoPath("bob", ()))
    assert [type(result) for result in peers.alice.results] == [NoPath, NoPath]


def test_aLinkThatNeverHadAPathIsOverWhenThereIsNone(peers: Peers) -> None:
    peers.alice.reach()
    link = peers.alice.link
    peers.fail()
    assert isOver(link)
    assert peers.clock.getDelayedCalls() == []
    assert peers.alice.link is not link


def test_aBugInDiallingIsToldAndLogged(peers: Peers, flushLoggedErrors: Flush) -> None:
    peers.alice.reach()
    link = peers.alice.link
    peers.fail(ZeroDivisionError("a bug"))
    assert [type(result) for result in peers.alice.results] == [ZeroDivisionError]
    assert len(flushLoggedErrors(ZeroDivisionError)) == 1
    assert isOver(link)


def test_whenNobodyWaitsAnyMoreAFirstDialIsGivenUp(peers: Peers) -> None:
    one, two = peers.alice.reach(), peers.alice.reach()
    one.cancel()
    assert peers.alice.isDialling()
    two.cancel()
    assert not peers.alice.isDialling()
    assert [type(result) for result in peers.alice.results] == [CancelledError] * 2
    assert peers.clock.getDelayedCalls() == []


def test_whenNobodyWaitsAnyMoreALostLinkIsDialledAllTheSame(peers: Peers) -> None:
    peers.linked().lose()
    peers.alice.reach().cancel()
    assert peers.alice.isDialling()
    assert not isOver(peers.alice.link)


def test_oneWhoWaitsMayCancelAnother(peers: Peers) -> None:
    link = peers.alice.link
    one, two = link.reach(), link.reach()
    told: list[object] = []
    two.addErrback(lambda failure: told.append(failure.type))
    one.addCallback(lambda _: two.cancel())
    peers.connect()
    assert told == [CancelledError]


def test_aLinkThatIsOverIsNotWaitedFor(peers: Peers) -> None:
    link = peers.linked().alice.link
    link.abort("enough")
    told: list[Failure] = []
    link.reach().addErrback(told.append)
    assert told[0].check(Unreachable) is not None
    assert told[0].getErrorMessage() == "the link to bob is over: enough"


def test_whoHearsOfTheEndMayTryAgain(peers: Peers) -> None:
    link = peers.alice.link
    again: list[object] = []
    first = link.reach()
    first.addErrback(lambda failure: again.append(peers.alice.reach()))
    link.abort("enough")
    assert peers.alice.link is not link
    peers.connect()
    assert peers.alice.results == ["reached"]


def test_whoWaitsForALinkThatEndsIsToldWhy(peers: Peers) -> None:
    peers.alice.reach()
    peers.alice.link.abort("enough")
    assert [str(result) for result in peers.alice.results] == ["the link to bob is over: enough"]


# Settling.


def settled(peers: Peers) -> list[object]:
    told: list[object] = []
    peers.alice.link.settle().addCallback(lambda _: told.append("settled"))
    return told


def test_itIsSettledWhenTheMeetingIsOver(peers: Peers) -> None:
    peers.alice.reach()
    peers.connect(isDirect=False, ends=False)
    peers.flush()
    told = settled(peers)
    assert peers.alice.results == ["reached"]
    assert told == []
    peers.connect()
    peers.flush()
    assert told == ["settled"]
    assert peers.alice.facts["path"] == "direct"


def test_itIsNotSettledBeforeTheOtherEndHasAgreedToThePath(peers: Peers) -> None:
    peers.alice.reach()
    peers.connect(isDirect=False, ends=False)
    peers.flush()
    peers.connect()
    told = settled(peers)
    assert told == []
    assert peers.alice.facts["path"] == "relayed"
    peers.flush()
    assert told == ["settled"]
    assert peers.alice.facts["path"] == "direct"


def test_whoWaitsForItToSettleIsToldOfTheEnd(peers: Peers) -> None:
    peers.alice.reach()
    told = settled(peers)
    peers.alice.link.abort("enough")
    assert told == ["settled"]


def test_whoDoesNotWaitAnyMoreIsNotTold(peers: Peers) -> None:
    peers.alice.reach()
    settling = peers.alice.link.settle()
    settling.addErrback(lambda failure: failure.trap(CancelledError) and None)
    settling.cancel()
    peers.connect()


def test_aNewMeetingIsWaitedForWhenTheOldOneIsGivenUp(peers: Peers) -> None:
    peers.alice.reach()
    told = settled(peers)
    peers.alice.link.renew()
    assert told == []
    peers.connect()
    peers.flush()
    assert told == ["settled"]


# The first paths.


def test_theRelayedPathIsUsedUntilTheDirectOneIsThere(peers: Peers) -> None:
    peers.alice.reach()
    peers.connect(isDirect=False, ends=False)
    peers.flush()
    user = User()
    stream = peers.alice.link.openStream("ssh")
    stream.write(b"over the relay, ")
    peers.flush()
    peers.bob.asks[0].agree()
    peers.bob.asks[0].carry(user)
    assert peers.bob.facts["path"] == "relayed"
    assert peers.alice.facts["reason"] == "the direct path is not there yet"
    peers.connect()
    stream.write(b"directly")
    peers.flush()
    assert user.received == b"over the relay, directly"
    for end in (peers.alice, peers.bob):
        assert (end.facts["path"], end.facts["strategy"]) == ("direct", "dial")
        assert (end.facts["moves"], end.facts["reason"]) == (1, None)


def test_aRelayedPathIsNotWantedBesideADirectOne(peers: Peers) -> None:
    peers.alice.reach()
    peers.connect(ends=False)
    peers.connect(isDirect=False)
    peers.flush()
    assert peers.alice.facts["path"] == "direct"
    assert peers.alice.facts["moves"] == 0
    assert len(peers.wires) == 1


def test_aPathThatComesWhenTheLinkIsOverIsLeft(peers: Peers) -> None:
    peers.alice.reach()
    dial = peers.alice.dial
    # A meeting that does not hear that it was cancelled.
    peers.alice.link.abort("enough")
    wire = peers.connect(dial=dial)
    peers.flush()
    assert not wire.isOpen
    assert peers.bob.links.toJSON() == {}


def test_whatAFirstPathCarriedIsNotLostWithIt(peers: Peers) -> None:
    # It is written to before the other end has answered, and breaks.
    peers.alice.reach()
    wire = peers.connect()
    stream = peers.alice.link.openStream("ssh")
    stream.write(b"early")
    wire.kill()
    assert peers.alice.results == ["reached"]
    peers.advance(5)
    assert peers.alice.isDialling()
    peers.connect()
    peers.flush()
    user = User()
    peers.bob.asks[0].agree()
    peers.bob.asks[0].carry(user)
    assert user.received == b"early"


# Lost.


def test_whoHasMadeTheLinkDialsAtOnceWhenItIsLost(peers: Peers) -> None:
    peers.linked()
    peers.advance(PROVEN_AFTER)
    peers.lose()
    peers.clock.advance(0)
    assert peers.alice.isDialling()
    assert not peers.bob.isDialling()
    assert peers.alice.facts["path"] is None


def test_theOtherEndDialsWhenItHasWaited(peers: Peers) -> None:
    peers.linked()
    peers.advance(PROVEN_AFTER)
    peers.lose()
    peers.clock.advance(YIELDING - 0.1)
    assert not peers.bob.isDialling()
    peers.clock.advance(0.2)
    assert peers.bob.isDialling()
    peers.connect(by=peers.bob)
    peers.flush()
    assert peers.alice.facts["path"] == "direct"


def test_theOtherEndDoesNotWaitWhenSomebodyThereDoes(peers: Peers) -> None:
    peers.linked().lose()
    peers.bob.reach()
    assert peers.bob.isDialling()


def test_whenBothEndsDialOneOfThePathsIsUsed(peers: Peers) -> None:
    peers.linked().lose()
    peers.advance(YIELDING + 1)
    assert peers.alice.isDialling()
    assert peers.bob.isDialling()
    peers.connect()
    peers.connect(by=peers.bob)
    peers.flush()
    assert len(peers.wires) == 1
    assert peers.alice.facts["path"] == peers.bob.facts["path"] == "direct"
    peers.advance(30)
    assert not peers.alice.isDialling()
    assert not peers.bob.isDialling()


def test_whenBothEndsMakeLinksAtOnceBothHaveOne(peers: Peers) -> None:
    peers.alice.reach()
    peers.bob.reach()
    peers.connect()
    peers.connect(by=peers.bob)
    peers.flush()
    for end in (peers.alice, peers.bob):
        assert end.results == ["reached"]
        end.link.openStream("ssh")
    peers.flush()
    assert len(peers.alice.asks) == len(peers.bob.asks) == 1


def test_aLostLinkIsDialledUntilItsSessionGivesUpAndNoLonger() -> None:
    with twoPeers(Limits(survival=60.0)) as peers:
        peers.linked()
        link = peers.alice.link
        peers.lose()
        began, last = peers.clock.seconds(), 0.0
        while peers.clock.seconds() < began + 60:
            if peers.alice.isDialling():
                last = peers.clock.seconds()
                peers.fail()
            if peers.bob.isDialling():
                peers.fail(end=peers.bob)
            peers.clock.advance(0.25)
        assert isOver(link)
        assert last >= began + 60 - LOST_WAITS[1] - 1
        assert len(peers.alice.dials) > 10
        assert peers.clock.getDelayedCalls() == []


def test_waitsBetweenAttemptsGrow(peers: Peers) -> None:
    peers.linked().lose()
    gaps: list[float] = []
    for _ in range(8):
        began = peers.clock.seconds()
        while not peers.alice.isDialling():
            peers.clock.advance(0.05)
            if peers.bob.isDialling():
                peers.fail(end=peers.bob)
        gaps.append(peers.clock.seconds() - began)
        peers.fail()
    assert gaps[1] < 2
    assert gaps[-1] > LOST_WAITS[1] - 0.1
    assert max(gaps) <= LOST_WAITS[1] + 0.6


def test_whoWaitsForALinkThatHasJustBeenLostIsNotToldOfAFailure(peers: Peers) -> None:
    peers.linked().lose()
    peers.alice.reach()
    peers.fail(NoPath("bob", ()))
    assert peers.alice.results == ["reached"]
    peers.advance(LOST_WAITS[0] * LOST_WAITS[2] ** 2 + 0.5)
    peers.connect()
    peers.flush()
    assert peers.alice.results == ["reached"] * 2


def test_whoGivesThePathUpForAnotherOneIsToldOfTheFirstFailure(peers: Peers) -> None:
    peers.linked().alice.link.renew()
    peers.alice.reach()
    problem = NoPath("bob", ())
    peers.fail(problem)
    assert peers.alice.results == ["reached", problem]


@pytest.mark.parametrize("error", [NotTrusted("no"), Refused("no"), ZeroDivisionError("a bug")])
def test_butOfAnAnswer(peers: Peers, error: Exception, flushLoggedErrors: Flush) -> None:
    peers.linked().lose()
    peers.alice.reach()
    peers.fail(error)
    assert peers.alice.results == ["reached", error]
    flushLoggedErrors(ZeroDivisionError)


def test_whoWaitsForALostLinkIsToldOfEachFailure(peers: Peers) -> None:
    peers.linked().lose()
    peers.clock.advance(PASSING)
    peers.alice.reach()
    peers.fail(Unreachable("not connected to any server"))
    assert str(peers.alice.results[-1]) == "not connected to any server"
    assert not isOver(peers.alice.link)
    peers.alice.reach()
    peers.connect()
    peers.flush()
    assert peers.alice.results[-1] == "reached"


def test_streamsOfALostLinkGoOn(peers: Peers) -> None:
    peers.linked()
    stream = peers.alice.link.openStream("ssh")
    peers.flush()
    peers.lose()
    stream.write(b"later")
    peers.alice.reach()
    peers.fail()
    peers.alice.reach()
    peers.connect(isDirect=False)
    peers.flush()
    user = User()
    peers.bob.asks[0].agree()
    peers.bob.asks[0].carry(user)
    assert user.received == b"later"
    assert peers.alice.facts["path"] == "relayed"


def test_aPathThatTheOtherEndDoesNotAnswerOnIsNoPath(peers: Peers) -> None:
    peers.linked().lose()
    peers.alice.reach()
    wire = peers.connect(silent=True)
    peers.advance(JOINING)
    assert not wire.isOpen
    assert isinstance(peers.alice.results[-1], Exception)
    assert not isOver(peers.alice.link)
    peers.advance(5)
    assert peers.alice.isDialling()


def test_whenTheNewPathIsLostBeforeItsAnswerTheOldOneIsStillGood(peers: Peers) -> None:
    peers.linked(isDirect=False)
    nextDial(peers)
    wire = peers.connect()
    # Bob hears of it, and goes on over it; Alice does not hear from him.
    wire.ends[0].deliver(1000)
    assert peers.bob.facts["path"] == "direct"
    wire.kill()
    peers.flush()
    for end in (peers.alice, peers.bob):
        assert (end.facts["path"], end.facts["strategy"]) == ("relayed", None)
    assert peers.bob.facts["reason"] == "the direct path was lost"
    assert nextDial(peers) > DIRECT_WAITS[0]


def test_aLostLinkDoesNotWaitLongForAnAnswerOnAnotherPath(peers: Peers) -> None:
    peers.linked(isDirect=False)
    nextDial(peers)
    (relayed,) = peers.wires
    peers.connect(silent=True)
    relayed.kill()
    assert not peers.alice.isDialling()
    peers.clock.advance(ANSWERING)
    assert peers.alice.dial.wanted.relaying
    peers.connect(isDirect=False)
    peers.flush()
    assert peers.alice.facts["path"] == "relayed"
    peers.advance(JOINING)


def test_aLostLinkIsNotDialledWhenTheAnswerComesSoon(peers: Peers) -> None:
    peers.linked(isDirect=False)
    nextDial(peers)
    (relayed,) = peers.wires
    peers.connect()
    relayed.kill()
    peers.clock.advance(ANSWERING / 2)
    peers.advance(ANSWERING)
    assert peers.alice.facts["path"] == "direct"
    assert not peers.alice.isDialling()


def test_aLinkThatTheOtherEndHasForgottenIsOver(peers: Peers) -> None:
    peers.linked()
    link = peers.alice.link
    user = User()
    link.openStream("ssh").carry(user)
    peers.flush()
    peers.lose()
    peers.bob.link.abort("the process has ended")
    peers.alice.reach()
    peers.connect()
    peers.flush()
    assert isOver(link)
    assert user.lost is not None
    assert isinstance(peers.alice.results[-1], PunchdError)


# Relayed links look for a direct path.


def nextDial(peers: Peers) -> float:
    """
    @return: seconds until Alice dials.
    """
    began = peers.clock.seconds()
    while not peers.alice.isDialling():
        peers.advance(0.5, 0.5)
        assert peers.clock.seconds() - began < 1000
        if peers.bob.isDialling():
            peers.fail(end=peers.bob)
    return peers.clock.seconds() - began


def test_aRelayedLinkIsDialledForADirectPathOnly(peers: Peers) -> None:
    peers.linked(isDirect=False)
    assert DIRECT_WAITS[0] <= nextDial(peers) <= DIRECT_WAITS[0] + 1
    wanted = peers.alice.dial.wanted
    assert (wanted.notPunching, wanted.relaying) == ("", False)
    assert peers.bob.dials == []
    peers.connect()
    peers.flush()
    assert peers.alice.facts["path"] == "direct"
    assert len(peers.wires) == 1


def test_attemptsToGetADirectPathBecomeRare(peers: Peers) -> None:
    peers.linked(isDirect=False)
    gaps = []
    for _ in range(4):
        gaps.append(nextDial(peers))
        peers.fail(NoPath("bob", (), "nothing could be tried"))
    assert [round(gap, -1) for gap in gaps] == [10, 20, 40, 80]
    assert "nothing could be tried" in peers.alice.facts["reason"]
    assert peers.alice.facts["path"] == "relayed"


def test_whileItIsDialledForADirectPathALostLinkIsDialledAnew(peers: Peers) -> None:
    peers.linked(isDirect=False)
    nextDial(peers)
    useless = peers.alice.dial
    peers.lose()
    peers.clock.advance(0)
    assert useless.isCancelled
    assert peers.alice.dial.wanted.relaying


def flap(peers: Peers) -> None:
    """
    Let a direct path come, and go before it has proven itself.
    """
    if not peers.alice.isDialling():
        nextDial(peers)
    peers.connect()
    peers.advance(PROVEN_AFTER / 2)
    peers.lose()


def test_aPathThatFlapsIsNotLookedForAtOnce(peers: Peers) -> None:
    peers.linked()
    peers.advance(1)
    peers.lose()
    for _ in range(MOST_FLAPS - 1):
        flap(peers)
    nextDial(peers)
    wanted = peers.alice.dial.wanted
    assert "the last direct paths were soon lost" in wanted.notPunching
    assert wanted.relaying


def test_directPathsThatFlapAreTriedMoreRarely(peers: Peers) -> None:
    peers.linked(isDirect=False)
    gaps = []
    for _ in range(4):
        gaps.append(nextDial(peers))
        flap(peers)
        nextDial(peers)
        peers.connect(isDirect=False)
        peers.flush()
    assert [round(gap, -1) for gap in gaps] == [10, 20, 40, 80]


def test_aPathThatHasProvenItselfBeginsTheCountAnew(peers: Peers) -> None:
    peers.linked()
    peers.advance(1)
    peers.lose()
    nextDial(peers)
    peers.connect()
    peers.advance(PROVEN_AFTER + 1)
    peers.lose()
    flap(peers)
    nextDial(peers)
    assert not peers.alice.dial.wanted.notPunching


def test_ifThereIsNoRelayAFlappingPathMustDo(peers: Peers) -> None:
    peers.linked().lose()
    for _ in range(MOST_FLAPS - 1):
        flap(peers)
    nextDial(peers)
    assert peers.alice.dial.wanted.notPunching
    peers.fail(NoPath("bob", ()))
    nextDial(peers)
    assert not peers.alice.dial.wanted.notPunching


def test_aRelayThatDropsEverythingIsNotAskedAllTheTime(peers: Peers) -> None:
    peers.linked(isDirect=False)
    for _ in range(8):
        peers.lose()
        nextDial(peers)
        peers.connect(isDirect=False)
    peers.lose()
    assert nextDial(peers) > LOST_WAITS[1] - 0.5


# Renewing.


def test_renewingGivesUpThePathAndLooksForAnother(peers: Peers) -> None:
    peers.linked()
    (wire,) = peers.wires
    peers.alice.link.renew()
    peers.flush()
    assert not wire.isOpen
    wanted = peers.alice.dial.wanted
    assert (wanted.notPunching, wanted.relaying) == ("", True)
    peers.connect()
    peers.flush()
    assert peers.alice.facts["path"] == "direct"
    assert peers.alice.facts["moves"] == 1


def test_renewingDuringAFirstDialBeginsAnew(peers: Peers) -> None:
    peers.alice.reach()
    first = peers.alice.dial
    peers.alice.link.renew()
    assert first.isCancelled
    assert peers.alice.results == []
    peers.connect()
    assert peers.alice.results == ["reached"]


def test_aMeetingThatWasGivenUpDoesNotDisturbTheNext(peers: Peers) -> None:
    peers.alice.reach()
    first = peers.alice.dial
    # What it raises when it is cancelled is its own business.
    first.result._canceller = lambda result: result.errback(Unreachable("given up"))
    peers.alice.link.renew()
    assert peers.alice.results == []
    assert len(peers.alice.dials) == 2
    peers.connect()
    assert peers.alice.results == ["reached"]
    assert peers.alice.facts["reason"] is None


def test_renewingBetweenAttemptsDoesNotWait(peers: Peers) -> None:
    peers.linked().lose()
    peers.alice.reach()
    peers.fail()
    peers.alice.link.renew()
    assert peers.alice.isDialling()


def test_renewingWhileAPathIsNotAnsweredDoesNotWaitForIt(peers: Peers) -> None:
    peers.linked(isDirect=False)
    nextDial(peers)
    peers.connect(silent=True)
    peers.alice.link.renew()
    told = settled(peers)
    peers.connect()
    peers.flush()
    assert told == ["settled"]
    assert peers.alice.facts["path"] == "direct"


def test_aLinkThatIsOverIsNotRenewed(peers: Peers) -> None:
    link = peers.linked().alice.link
    link.abort("enough")
    link.renew()
    assert not peers.alice.isDialling()


# Doubting.


def test_aPathThatAnswersInTimeStays(peers: Peers) -> None:
    peers.linked()
    (wire,) = peers.wires
    peers.alice.links.doubt()
    peers.advance(2 * DOUBTFUL)
    assert wire.isOpen
    assert not peers.alice.isDialling()
    assert peers.alice.facts["moves"] == 0


def test_aPathOverWhichMuchComesStaysHoweverLateItsAnswer(peers: Peers) -> None:
    peers.linked()
    (wire,) = peers.wires
    stream = peers.alice.link.openStream("ssh")
    stream.carry(User())
    peers.flush()
    (ask,) = peers.bob.asks
    ask.agree()
    peers.flush()
    ask.write(bytes(4 * FULL))
    peers.alice.links.doubt()
    for _ in range(16):
        peers.clock.advance(0.25)
        wire.step(4096)
    # The answer to that is still behind it.
    assert len(wire.ends[1].sent) > 0
    assert wire.isOpen
    assert peers.alice.facts["moves"] == 0
    assert not peers.alice.isDialling()


def test_aPathThatMayNotBePingedNowIsNotDoubted(peers: Peers) -> None:
    peers.linked()
    (wire,) = peers.wires
    for _ in range(int(SHARE * PINGS_AT_ONCE)):
        measuring = peers.alice.link.session.measure()
        peers.flush()
    assert not measuring.called
    measuring.addErrback(lambda failure: None)
    peers.alice.links.doubt()
    peers.advance(2 * DOUBTFUL)
    assert wire.isOpen
    assert not peers.alice.isDialling()


@pytest.mark.parametrize("which", ["alice", "bob"])
def test_aPathThatIsSilentInDoubtIsReplacedAtOnceByWhoeverDoubts(peers: Peers, which: str) -> None:
    peers.linked()
    wire = peers.silence()
    end: End = getattr(peers, which)
    end.links.doubt()
    peers.advance(DOUBTFUL - 0.25)
    assert not end.isDialling()
    peers.advance(0.25)
    peers.connect(by=end)
    peers.flush()
    assert peers.alice.facts["moves"] == peers.bob.facts["moves"] == 1
    wire.kill()


def test_aFarPeerHasMoreTimeInDoubt(peers: Peers) -> None:
    peers.linked()
    peers.alice.link.session._keeping.roundTrip = 1.0
    wire = peers.silence()
    peers.alice.links.doubt()
    peers.advance(PATIENT_TRIPS - 0.25)
    assert not peers.alice.isDialling()
    peers.advance(0.25)
    assert peers.alice.isDialling()
    wire.kill()


def test_inDoubtAnotherPathIsNoneOfThatOnesBusiness(peers: Peers) -> None:
    peers.linked(isDirect=False)
    nextDial(peers)
    wire = peers.silence()
    peers.alice.links.doubt()
    peers.connect()
    peers.advance(2 * DOUBTFUL)
    assert peers.alice.facts["path"] == "direct"
    assert not peers.alice.isDialling()
    wire.kill()


def test_aLostLinkIsDialledWhenThereMayBeAWayAgain(peers: Peers) -> None:
    peers.linked().lose()
    nextDial(peers)
    peers.fail()
    assert not peers.alice.isDialling()
    peers.alice.links.doubt()
    assert peers.alice.isDialling()
    # Once.
    peers.alice.links.doubt()
    assert len([dial for dial in peers.alice.dials if dial.isOpen]) == 1


def test_whenAPathIsLostSoMayTheServerBe(peers: Peers) -> None:
    peers.linked(isDirect=False)
    nextDial(peers)
    peers.connect()
    peers.flush()
    # A better path does not mean that one was lost.
    assert peers.alice.dialling.doubts == 0
    peers.lose()
    assert peers.alice.dialling.doubts == 1


def test_aLinkThatEndsInDoubtIsNotDialled(peers: Peers) -> None:
    peers.linked()
    wire = peers.silence()
    peers.alice.links.doubt()
    peers.alice.link.abort("enough")
    assert not [call for call in peers.clock.getDelayedCalls() if call.getTime() <= DOUBTFUL]
    peers.advance(2 * DOUBTFUL)
    assert not peers.alice.isDialling()
    wire.kill()


# Idling.


def test_aLinkThatNobodyUsesEnds(peers: Peers) -> None:
    peers.linked()
    link = peers.alice.link
    peers.advance(IDLE - 1, 5)
    assert not isOver(link)
    peers.advance(2, 0.5)
    assert isOver(link)
    assert peers.alice.facts["path"] is None


def test_aLinkWithAStreamDoesNotEnd(peers: Peers) -> None:
    peers.linked()
    link = peers.alice.link
    stream = link.openStream("ssh")
    peers.flush()
    peers.bob.asks[0].agree()
    peers.bob.asks[0].carry(User())
    stream.carry(User())
    peers.advance(IDLE + 10, 5)
    assert not isOver(link)
    stream.loseConnection()
    peers.flush()
    peers.advance(IDLE + 10, 5)
    assert isOver(link)


def test_aLinkThatMovesAndThatNobodyUsesEnds(peers: Peers) -> None:
    peers.linked()
    link = peers.alice.link
    while peers.clock.seconds() < IDLE - 10:
        peers.advance(PROVEN_AFTER, 1)
        peers.lose()
        nextDial(peers)
        peers.connect()
        peers.flush()
    peers.advance(20, 1)
    assert isOver(link)


def test_aLostLinkThatNobodyUsesIsNotDialledToSaySo() -> None:
    with twoPeers(Limits(survival=10 * IDLE)) as peers:
        peers.linked()
        link = peers.alice.link
        peers.lose()
        while peers.clock.seconds() < IDLE + 1:
            peers.clock.advance(0.5)
            for end in (peers.alice, peers.bob):
                if end.isDialling():
                    peers.fail(end=end)
        assert isOver(link)
        assert peers.clock.getDelayedCalls() == []


def test_aLinkThatIsEndingGetsNoNewStreams(peers: Peers) -> None:
    peers.linked()
    link = peers.alice.link
    peers.advance(IDLE - 1, 5)
    # Its goodbye is under way.
    peers.clock.advance(1)
    assert link.isEnding
    assert not isOver(link)
    assert peers.alice.link is not link
    peers.flush()
    assert isOver(link)


# Stopping.


def test_stoppedBeforeTheFirstPathEverybodyIsTold(peers: Peers) -> None:
    peers.alice.reach()
    dial = peers.alice.dial
    peers.alice.links.abort()
    assert dial.isCancelled
    assert [type(result) for result in peers.alice.results] == [Unreachable]
    assert peers.clock.getDelayedCalls() == []


@pytest.mark.parametrize("isDirect", [True, False])
def test_stoppedWhileAPathIsNotAnsweredNothingIsLeft(peers: Peers, isDirect: bool) -> None:
    peers.alice.reach()
    peers.connect(isDirect, ends=False)
    peers.alice.links.abort()
    peers.flush()
    assert peers.wires == []
    assert not peers.alice.isDialling()


def test_stoppedBetweenAttemptsNothingIsLeft(peers: Peers) -> None:
    peers.linked().lose()
    peers.alice.reach()
    peers.fail()
    for end in (peers.alice, peers.bob):
        end.links.abort()
    assert peers.clock.getDelayedCalls() == []


def test_theOtherEndHearsThatThisOneStops(peers: Peers) -> None:
    peers.linked()
    link = peers.bob.link
    peers.alice.links.abort()
    peers.flush()
    assert isOver(link)
    peers.clock.advance(YIELDING + 1)
    assert not peers.bob.isDialling()


def test_afterStoppingThereAreNoNewLinks(peers: Peers) -> None:
    peers.alice.links.abort()
    with pytest.raises(Unreachable, match="being stopped"):
        peers.alice.reach()
    peers.bob.reach()
    peers.connect(by=peers.bob)
    peers.flush()
    assert peers.wires == []
    assert not peers.bob.link.session.isConnected


# Both ends dial, one after the other.


@pytest.mark.parametrize("isRelayed", [False, True])
@pytest.mark.parametrize("isAliceFirst", [False, True])
def test_aSecondDirectPathMovesNothing(peers: Peers, isAliceFirst: bool, isRelayed: bool) -> None:
    peers.linked(isDirect=False)
    peers.advance(1)
    peers.lose()
    peers.advance(YIELDING + 1)
    first, second = (peers.alice, peers.bob) if isAliceFirst else (peers.bob, peers.alice)
    if isRelayed:
        peers.connect(isDirect=False, by=first, ends=False)
        peers.flush()
    peers.connect(by=first)
    peers.flush()
    moves = [end.facts["moves"] for end in (peers.alice, peers.bob)]
    present = peers.alice.link.session.path
    assert second.isDialling()
    wire = peers.connect(by=second)
    peers.flush()
    assert not wire.isOpen
    assert peers.alice.link.session.path is present
    assert [end.facts["moves"] for end in (peers.alice, peers.bob)] == moves
    assert not second.isDialling()
    peers.advance(30)
    assert peers.alice.facts["path"] == peers.bob.facts["path"] == "direct"


def test_aLinkThatIsRenewedMovesToTheNewDirectPath(peers: Peers) -> None:
    peers.linked()
    peers.alice.link.renew()
    wire = peers.connect()
    peers.flush()
    assert wire.isOpen
    assert peers.alice.facts["path"] == peers.bob.facts["path"] == "direct"


# A relay that has reached a limit.


def limited(seconds: float) -> NoPath:
    return NoPath("bob", (), "refused").withoutRelay(Limited("bob may have 10 bytes", seconds))


def lostWithAStream(peers: Peers) -> tuple[User, User]:
    """
    A relayed link with a stream loses its path.

    @return: what has the stream at each end.
    """
    users = User(), User()
    peers.linked(isDirect=False)
    peers.alice.link.openStream("ssh").carry(users[0])
    peers.flush()
    peers.bob.asks[0].agree()
    peers.bob.asks[0].carry(users[1])
    peers.advance(1)
    peers.lose()
    return users


def failing(peers: Peers, seconds: float, error: NoPath) -> list[float]:
    """
    Let each dial of Alice's fail for so many seconds, and Bob's with it.

    @return: when she dialled.
    """
    began, until = peers.clock.seconds(), peers.clock.seconds() + seconds
    while peers.clock.seconds() < until:
        for end in (peers.alice, peers.bob):
            if end.isDialling():
                peers.fail(error, end=end)
        peers.advance(0.5, 0.5)
    return [dial.at - began for dial in peers.alice.dials if dial.at >= began]


def test_aLinkThatTheRelayWillNotHelpInItsLifetimeEndsItsStreams(peers: Peers) -> None:
    users = lostWithAStream(peers)
    failing(peers, 60, limited(SURVIVAL + 1))
    for user in users:
        assert user.lost is not None
        assert user.lost.check(ConnectionLost) is not None
        assert "no relayed one: bob may have 10 bytes" in user.lost.getErrorMessage()
    for end in (peers.alice, peers.bob):
        assert not end.isDialling()
        assert "no relayed path either: bob may have 10 bytes" in end.facts["reason"]


def test_aLimitThatIsOverInTimeIsWaitedFor(peers: Peers) -> None:
    users = lostWithAStream(peers)
    dials = failing(peers, 300, limited(SURVIVAL - 350))
    assert [user.lost for user in users] == [None, None]
    # Every 4 s would be 75 times.
    assert 5 <= len(dials) <= 12
    assert dials[0] == 0
    nextDial(peers)
    assert peers.alice.dial.wanted.relaying
    peers.connect(isDirect=False)
    peers.flush()
    peers.alice.link.openStream("ssh")
    assert peers.alice.facts["path"] == "relayed"
    assert not isOver(peers.alice.link)


def test_aLimitIsToldOnceInTheLog(peers: Peers) -> None:
    lostWithAStream(peers)
    with capturedLogs() as events:
        failing(peers, 100, limited(SURVIVAL - 350))
    assert [event["peer"] for event in events if "limit" in event] == ["bob", "alice"]


def test_aDirectPathThatComesBackSavesALinkThatTheRelayWillNotHelp(peers: Peers) -> None:
    peers.linked()
    peers.advance(PROVEN_AFTER)
    peers.lose()
    for _ in range(MOST_IN_VAIN - 1):
        nextDial(peers)
        peers.fail(limited(SURVIVAL * 2))
        assert not isOver(peers.alice.link)
    nextDial(peers)
    peers.connect()
    peers.flush()
    assert peers.alice.facts["path"] == "direct"


def test_whoWaitsForALinkThatTheRelayWillNotHelpIsToldWhy(peers: Peers) -> None:
    peers.linked().lose()
    for _ in range(MOST_IN_VAIN):
        peers.alice.reach()
        peers.fail(limited(SURVIVAL * 2))
    assert len(peers.alice.results) == 1 + MOST_IN_VAIN
    assert all("bob may have 10 bytes" in str(error) for error in peers.alice.results[1:])


def test_withoutAServerTheLastLimitIsForgotten(peers: Peers) -> None:
    lostWithAStream(peers)
    failing(peers, 20, limited(SURVIVAL / 2))
    if not peers.alice.isDialling():
        nextDial(peers)
    peers.fail(Unreachable("the server does not answer"))
    assert nextDial(peers) <= LOST_WAITS[1] + 1
