"""
Tests for L{punchd.link.session}: moving, ending, and life signs.
"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from punchd.errors import NotTrusted, Refused, Unreachable
from punchd.link.flow import Limits
from punchd.link.keeping import ANSWERING, LATELY, OFTEN, PINGS_AT_ONCE, SELDOM, SILENCE
from punchd.link.path import LEAVING, Path
from punchd.link.paths import JOINING
from punchd.link.receipts import ACKNOWLEDGE, ACKNOWLEDGING
from punchd.net.spacing import NEAR
from punchd.wire.frames import FrameReader, Join, Kind, packPosition
from tests.unit.link.pairs import User
from tests.unit.link.wires import ALICE, BOB, LINK, End, Link, Wire, errorOf

DATA = bytes(range(256)) * 2000


def kindsOf(raw: bytes | bytearray) -> list[Kind]:
    return [kind for kind, _, _ in FrameReader().read(bytes(raw))]


# Joining.


def test_joiningTellsBothOwnersOfThePath() -> None:
    link = Link()
    assert link.aliceOwner.paths == [link.wires[0].ends[0].protocol]
    assert link.bobOwner.paths == [link.wires[0].ends[1].protocol]
    link.end()


def test_whatWasOpenedBeforeTheFirstPathGoesOutOnIt() -> None:
    link = Link(join=False)
    stream = link.alice.openStream("ssh")
    stream.write(b"early")
    link.connect()
    link.flush()
    theirs, service = link.bobOwner.asks[0]
    user = User()
    theirs.agree()
    theirs.carry(user)
    assert service == "ssh"
    assert user.received == b"early"
    link.end()


@pytest.mark.parametrize("byAlice", [True, False])
def test_theLinkMovesWithoutLosingOrRepeatingAByte(byAlice: bool) -> None:
    link = Link()
    mine, theirs, myUser, theirUser = link.open()
    old = link.wires[0]
    mine.write(DATA)
    theirs.write(DATA)
    old.step(1000)
    new = link.connect(byAlice)
    mine.write(DATA)
    theirs.write(DATA)
    link.flush()
    assert myUser.received == DATA * 2
    assert theirUser.received == DATA * 2
    assert not old.isOpen
    assert new.isOpen
    link.end()


@given(st.integers(0, 200), st.integers(1, 20_000), st.booleans())
def test_aPathThatIsLostAnywhereLosesNothing(steps: int, most: int, byAlice: bool) -> None:
    link = Link()
    mine, theirs, myUser, theirUser = link.open()
    mine.write(DATA)
    theirs.write(DATA)
    for _ in range(steps):
        link.clock.advance(0)
        link.wires[0].step(most)
    link.wires[0].kill()
    assert link.alice.path is None
    link.connect(byAlice)
    link.flush()
    assert myUser.received == DATA
    assert theirUser.received == DATA
    link.end()


def test_theOldPathIsReadUntilTheNewOneHasProvenItself() -> None:
    link = Link()
    mine, _, _, theirUser = link.open()
    old = link.wires[0]
    link.connect()
    mine.write(b"over the old one")
    old.step()
    assert theirUser.received == b"over the old one"
    link.flush()
    assert theirUser.received == b"over the old one"
    link.end()


def test_aPathThatIsLostBeforeTheAnswerChangesNothing() -> None:
    link = Link()
    mine, theirs, myUser, theirUser = link.open()
    old, new = link.wires[0], link.connect()
    # The JOIN arrives, and Bob answers; but that gets lost.
    new.ends[0].deliver(1000)
    new.kill()
    mine.write(DATA)
    theirs.write(DATA)
    link.flush()
    assert [type(problem) for problem in link.problems] == [Unreachable]
    assert old.isOpen
    assert myUser.received == DATA
    assert theirUser.received == DATA
    link.end()


def test_whenBothJoinAtOnceOneOfThemWins() -> None:
    link = Link()
    mine, theirs, myUser, theirUser = link.open()
    link.connect(True)
    link.connect(False)
    mine.write(DATA)
    theirs.write(DATA)
    link.flush()
    assert [type(problem) for problem in link.problems] == [Refused]
    assert len(link.wires) == 1
    assert link.alice.path is link.wires[0].ends[0].protocol
    assert link.bob.path is link.wires[0].ends[1].protocol
    assert myUser.received == DATA
    assert theirUser.received == DATA
    link.end()


def pathTo(link: Link, who: Any) -> Path:
    path = Path(link.clock, lambda: None)
    path.peerID = who
    return path


def alone(link: Link, path: Path) -> Any:
    """
    C{path} with a transport whose other end is nobody.
    """
    end = End(path)
    end.other = End(Path(link.clock, lambda: None))
    path.makeConnection(end)
    return end


def test_nobodyJoinsTheLinkOfAnother() -> None:
    link = Link()
    path = pathTo(link, BOB)
    end = alone(link, path)
    # To Bob, whose link this is with Alice, somebody else comes.
    link.bob.joined(path, Join(LINK, 9, False, 0))
    assert kindsOf(end.sent) == [Kind.DECLINED]
    assert end.isClosing
    assert link.bob.path is link.wires[0].ends[1].protocol
    link.clock.advance(LEAVING)
    link.end()


def test_aPathToSomebodyElseIsNotJoined() -> None:
    link = Link()
    path = pathTo(link, ALICE)
    end = alone(link, path)
    errors = errorOf(link.alice.join(path))
    assert [type(error) for error in errors] == [NotTrusted]
    assert end.isAborted
    link.end()


@pytest.mark.parametrize("generation", [0, 1])
def test_aReplayedJoinIsDeclined(generation: int) -> None:
    link = Link()
    path = pathTo(link, ALICE)
    end = alone(link, path)
    link.bob.joined(path, Join(LINK, generation, True, 0))
    assert kindsOf(end.sent) == [Kind.DECLINED]
    assert link.bob.path is link.wires[0].ends[1].protocol
    link.clock.advance(LEAVING)
    link.end()


def test_whoHasReceivedMoreThanWasSentEndsTheLink() -> None:
    link = Link()
    path = pathTo(link, ALICE)
    alone(link, path)
    link.bob.joined(path, Join(LINK, 9, False, 10**6))
    assert link.bob.isOver
    link.flush()
    assert link.alice.isOver
    link.clock.advance(LEAVING)
    link.end()


def test_aLinkThatIsUnknownAtTheOtherEndIsOver() -> None:
    link = Link(join=False)
    stream = link.alice.openStream("ssh")
    user = User()
    stream.carry(user)
    wire = link.connect()
    wire.ends[1].protocol.onJoin = lambda path, join: path.decline("what link?", isUnknown=True)
    link.flush()
    assert link.alice.isOver
    assert user.lost is not None
    assert user.lost.check(ConnectionLost)
    assert [str(problem) for problem in link.problems] == ["what link?"]
    link.end()


def test_aJoinThatIsNotAnsweredFails() -> None:
    link = Link(join=False)
    wire = link.connect(byAlice=False)
    link.clock.advance(JOINING)
    assert [type(problem) for problem in link.problems] == [Unreachable]
    assert wire.ends[1].isAborted
    link.flush()
    link.end()


def test_theFirstPathIsWrittenToAtOnce() -> None:
    link = Link(join=False)
    stream = link.alice.openStream("ssh")
    stream.write(b"early")
    wire = link.connect()
    link.clock.advance(0)
    # One way only: nothing comes back.
    wire.ends[0].deliver(1 << 30)
    theirs, service = link.bobOwner.asks[-1]
    assert (theirs.bytesIn, service) == (5, "ssh")
    link.flush()
    link.end()


def test_aFirstPathThatIsCancelledIsNoPath() -> None:
    link = Link(join=False)
    path, other = Path(link.clock, lambda: None), Path(link.clock, lambda: None)
    path.peerID = BOB
    wire = Wire(link.clock, path, other)
    joining = link.alice.join(path)
    joining.addErrback(lambda failure: failure.trap(CancelledError) and None)
    joining.cancel()
    assert [one is path for one in link.aliceOwner.paths] == [True, False]
    assert wire.ends[0].isAborted
    link.end()


def test_aPathThatIsLostAlreadyIsNotJoined() -> None:
    link = Link()
    path = pathTo(link, BOB)
    alone(link, path).lose(ConnectionLost())
    assert [type(error) for error in errorOf(link.alice.join(path))] == [Unreachable]
    link.end()


def test_aPathThatNobodyWaitsForIsDeclined() -> None:
    link = Link(join=False)
    wire = link.connect()
    wire.ends[1].protocol.onJoin = Path(link.clock, lambda: None).onJoin
    link.flush()
    assert [type(problem) for problem in link.problems] == [Refused]
    assert not link.alice.isOver
    link.end()


def test_leavingThePathKeepsTheStreams() -> None:
    link = Link()
    mine, _, _, theirUser = link.open()
    link.alice.leavePath("another network")
    link.flush()
    assert (link.alice.path, link.bob.path) == (None, None)
    assert link.aliceOwner.paths[-1] is None
    mine.write(DATA)
    link.connect()
    link.flush()
    assert theirUser.received == DATA
    link.end()


# Surviving.


def test_withoutAPathTheLinkSurvivesForAWhile() -> None:
    link = Link(Limits(survival=100))
    _, _, myUser, _ = link.open()
    link.wires[0].kill()
    over: list[str] = []
    link.alice.whenOver().addCallback(over.append)
    link.advance(99, 1)
    assert over == []
    link.advance(2, 1)
    assert over == ["no path for 100 s"]
    assert myUser.lost is not None
    assert myUser.lost.check(ConnectionLost)
    link.end()


def test_aStreamThatWasClosedHereButNotThereEndsAsBroken() -> None:
    """
    Whether the other end got the last bytes, nobody knows.
    """
    link = Link()
    mine, theirs, myUser, theirUser = link.open()
    theirs.loseConnection()
    link.flush()
    mine.write(DATA)
    mine.loseConnection()
    link.wires[0].kill()
    link.advance(700, 10)
    for user in (myUser, theirUser):
        assert user.lost is not None
        assert user.lost.check(ConnectionLost)
    link.end()


def test_aPathEndsTheWaiting() -> None:
    link = Link(Limits(survival=100))
    link.wires[0].kill()
    link.advance(90, 1)
    link.connect()
    link.advance(90, 1)
    assert not link.alice.isOver
    link.end()


# Ending.


def test_goodbyeLetsStreamsFinish() -> None:
    link = Link()
    mine, theirs, myUser, theirUser = link.open()
    link.alice.close("enough")
    link.flush()
    assert not link.bob.isOver
    mine.write(DATA)
    theirs.write(DATA)
    mine.loseWriteConnection()
    link.flush()
    assert not link.alice.isOver
    theirs.loseWriteConnection()
    link.flush()
    assert (link.alice.isOver, link.bob.isOver) == (True, True)
    for user in (myUser, theirUser):
        assert user.received == DATA
        assert user.lost is not None
        assert user.lost.check(ConnectionDone)
    link.advance(LEAVING)
    assert link.clock.getDelayedCalls() == []


@pytest.mark.parametrize("isNow", [True, False])
def test_whoReadsSlowlyGetsWhatIsHereAfterTheLink(isNow: bool) -> None:
    link = Link()
    mine, theirs, myUser, theirUser = link.open()
    theirs.pauseProducing()
    data = DATA[:100_000]
    mine.write(data)
    for stream in (mine, theirs):
        stream.loseWriteConnection()
    link.flush()
    assert theirUser.received == b""
    if isNow:
        link.alice.abort("enough")
    else:
        link.alice.close("enough")
    link.flush()
    # It does not wait for who reads; nor is it looked for again.
    assert (link.alice.isOver, link.bob.isOver) == (True, True)
    assert theirUser.lost is None
    assert (len(link.bob.streams), link.bob.bytesIn) == (0, len(data))
    theirs.resumeProducing()
    assert theirUser.received == data
    for user in (myUser, theirUser):
        assert user.lost is not None
        assert user.lost.check(ConnectionDone)
    assert link.bob.bytesIn == len(data)
    link.advance(LEAVING)
    assert link.clock.getDelayedCalls() == []


def test_whatIsNotHereAsAWholeBreaksWithTheLink() -> None:
    link = Link()
    mine, theirs, _, theirUser = link.open()
    theirs.pauseProducing()
    mine.write(DATA[:100_000])
    mine.loseWriteConnection()
    link.flush()
    # Nobody knows whether there would have been an answer.
    link.alice.abort("enough")
    link.flush()
    assert theirUser.lost is not None
    assert theirUser.lost.check(ConnectionLost)
    link.advance(LEAVING)


@pytest.mark.parametrize("isNow", [True, False])
def test_whoSaysGoodbyeAndWhyIsLoggedAtTheOtherEnd(isNow: bool) -> None:
    link = Link()
    link.open()
    with capturedLogs() as events:
        if isNow:
            link.alice.abort("the peer is being stopped")
        else:
            link.alice.close("the peer is being stopped")
        link.flush()
    assert [
        (event["peer"], event["why"]) for event in events if "ends the link" in event["log_format"]
    ] == [(link.bob.peer, "the peer is being stopped")]
    link.end()


def test_afterGoodbyeThereAreNoNewStreams() -> None:
    link = Link()
    link.open()
    link.alice.close("enough")
    ours = errorOf(link.alice.openStream("ssh").opened)
    theirs = errorOf(link.bob.openStream("ssh").opened)
    link.flush()
    assert [str(error) for error in ours + theirs] == ["the link ends: enough"] * 2
    link.end()


def test_goodbyeSurvivesAMove() -> None:
    link = Link()
    mine, theirs, _, _ = link.open()
    link.wires[0].kill()
    link.alice.close("enough")
    mine.loseWriteConnection()
    theirs.loseWriteConnection()
    link.connect(False)
    link.flush()
    assert (link.alice.isOver, link.bob.isOver) == (True, True)
    link.end()


def test_abortingResetsTheStreamsAtBothEnds() -> None:
    link = Link()
    _, _, myUser, theirUser = link.open()
    over: list[str] = []
    link.bob.whenOver().addCallback(over.append)
    link.alice.abort("the peer is forgotten")
    link.flush()
    assert over == ["the peer is forgotten"]
    for user in (myUser, theirUser):
        assert user.lost is not None
        assert user.lost.check(ConnectionLost)
        assert "the peer is forgotten" in user.lost.getErrorMessage()
    link.end()


def test_abortingIsHeardThroughAPathThatIsFull() -> None:
    """
    Else the other end would wait for the path to come back.
    """
    link = Link()
    mine, _, _, theirUser = link.open()
    mine.write(DATA)
    link.clock.advance(0)
    end = link.wires[0].ends[0]
    assert end.isPaused
    mine.write(DATA)
    link.alice.abort("enough")
    assert kindsOf(end.sent)[-1] is Kind.GOODBYE
    link.flush()
    assert link.bob.isOver
    assert theirUser.lost is not None
    assert "enough" in theirUser.lost.getErrorMessage()
    link.end()


def test_nothingIsPossibleAfterTheEnd() -> None:
    link = Link()
    link.end()
    assert len(errorOf(link.alice.openStream("ssh").opened)) == 1
    assert len(errorOf(link.alice.measure())) == 1
    path = pathTo(link, BOB)
    alone(link, path)
    assert len(errorOf(link.alice.join(path))) == 1
    link.clock.advance(LEAVING)
    assert link.clock.getDelayedCalls() == []


# Acknowledging.


def acknowledgements(link: Link, kind: Kind = Kind.ACK) -> int:
    """
    How many frames of that kind are on their way from Bob.
    """
    return kindsOf(link.wires[0].ends[1].sent).count(kind)


def test_aFewBytesAreAcknowledgedAfterAWhile() -> None:
    link = Link()
    mine, _, _, _ = link.open()
    link.advance(1)
    mine.write(b"x")
    link.wires[0].ends[0].deliver(100)
    assert acknowledgements(link) == 0
    link.clock.advance(ACKNOWLEDGING)
    assert acknowledgements(link) == 1
    link.end()


def test_manyBytesAreAcknowledgedAtOnce() -> None:
    link = Link(Limits(firstWindow=4 * ACKNOWLEDGE, buffered=100 * ACKNOWLEDGE))
    mine, _, _, _ = link.open()
    link.advance(1)
    mine.write(bytes(ACKNOWLEDGE))
    while link.wires[0].ends[0].sent:
        link.wires[0].ends[0].deliver(1 << 20)
    assert acknowledgements(link) == 1
    assert acknowledgements(link, Kind.CREDIT) == 0
    link.end()


def test_creditTakesAnAcknowledgementWithIt() -> None:
    link = Link(Limits(firstWindow=40_000))
    mine, _, _, _ = link.open()
    link.advance(1)
    mine.write(bytes(20_000))
    answering = link.wires[0].ends[1]
    writes = answering.writes
    link.wires[0].ends[0].deliver(30_000)
    assert kindsOf(answering.sent) == [Kind.ACK, Kind.CREDIT]
    assert answering.writes == writes + 1
    link.end()


def test_whatIsAcknowledgedIsNotKept() -> None:
    link = Link()
    mine, _, _, _ = link.open()
    mine.write(DATA)
    link.flush()
    link.advance(1)
    assert link.alice._pump._outbound.size == 0
    link.end()


# Life signs.


def pings(link: Link, seconds: float) -> int:
    """
    How often Alice pings.
    """
    count = 0
    seen = link.alice._keeping._number
    link.advance(seconds)
    count = link.alice._keeping._number - seen
    return count


def test_anIdlePathIsPingedSeldom() -> None:
    link = Link()
    link.advance(LATELY + 5)
    assert pings(link, 10 * SELDOM) <= 10
    link.end()


def test_aBusyPathIsPingedOften() -> None:
    link = Link()
    mine, _, _, _ = link.open()
    link.advance(100)
    mine.write(b"x")
    assert pings(link, LATELY) >= LATELY / OFTEN - 2
    link.end()


def test_aPathWithoutASignOfLifeIsLost() -> None:
    link = Link()
    link.advance(20)
    wire = link.wires[0]
    # Nothing arrives any more, and nobody is told.
    link.wires = []
    link.advance(SELDOM + SILENCE + 3)
    assert link.alice.path is None
    assert wire.ends[0].isAborted
    assert link.aliceOwner.paths[-1] is None
    wire.kill()
    link.end()


def test_whileAnythingComesThePathLives() -> None:
    link = Link()
    link.advance(20)
    wire = link.wires[0]
    link.wires = []
    for _ in range(40):
        # No answers, but something.
        link.clock.advance(0.5)
        wire.ends[0].protocol.dataReceived(packPosition(Kind.ACK, 0))
    assert link.alice.path is wire.ends[0].protocol
    wire.kill()
    link.end()


def test_theRoundTripIsMeasured() -> None:
    link = Link()
    found: list[float] = []
    link.alice.measure().addCallback(found.append)
    link.clock.advance(0.25)
    link.flush()
    assert found == [0.25]
    assert link.alice.roundTrip == 0.25
    link.end()


@pytest.mark.parametrize(("roundTrip", "isNear"), [(NEAR / 2, True), (NEAR * 2, False)])
def test_whatIsSentToSomebodyNearIsNotSpaced(roundTrip: float, isNear: bool) -> None:
    link = Link(join=False)
    end = link.connect().ends[0]
    link.clock.advance(roundTrip)
    link.flush()
    assert link.alice.leastRoundTrip == roundTrip
    assert end.isUnspaced is isNear
    link.end()


def test_nobodyIsNearBecauseTheClockWasPutBack() -> None:
    link = Link(join=False)
    end = link.connect().ends[0]
    link.clock.rightNow -= 0.5
    link.flush()
    assert not end.isUnspaced
    link.end()


def test_withoutAPathNothingIsMeasured() -> None:
    link = Link(join=False)
    assert [type(error) for error in errorOf(link.alice.measure())] == [Unreachable]
    link.end()


def test_aMeasurementWithoutAnswerFails() -> None:
    link = Link()
    errors = errorOf(link.alice.measure())
    link.clock.advance(ANSWERING)
    assert [type(error) for error in errors] == [Unreachable]
    link.wires[0].kill()
    link.end()


def test_aMeasurementGoesOnOverTheNextPath() -> None:
    link = Link()
    found: list[float] = []
    link.alice.measure().addCallback(found.append)
    link.wires[0].kill()
    link.connect()
    link.flush()
    assert len(found) == 1
    link.end()


def test_whoMeasuresAllTheTimeIsAnsweredAndWaits() -> None:
    """
    The other end would end the link.
    """
    link = Link()
    found: list[float] = []

    def untimely(failure: Failure) -> None:
        failure.trap(Unreachable)

    asked = 0
    while len(found) == asked < PINGS_AT_ONCE:
        link.alice.measure().addCallbacks(found.append, untimely)
        link.flush()
        asked += 1
    before = len(found)
    assert 10 < before < PINGS_AT_ONCE
    # After a while there is one more.
    link.advance(1.1)
    assert len(found) == before + 1
    # And so it goes on for as long as somebody wants it.
    for _ in range(100):
        link.alice.measure().addCallbacks(found.append, untimely)
        link.advance(0.3)
    assert not link.alice.isOver
    assert not link.bob.isOver
    link.end()


def test_aGenerationThatCannotBeEndsTheLink() -> None:
    """
    Else there would be none left for a path of ours.
    """
    link = Link()
    path = Path(link.clock, lambda: None)
    path.peerID = ALICE
    alone(link, path)
    link.bob.joined(path, Join(LINK, 2**32 - 1, isNew=False, received=0))
    assert link.bob.isOver
    link.end()
