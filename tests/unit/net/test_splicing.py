"""
Tests for L{punchd.net.splicing}: a splice between two connections in memory.
"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from punchd.net.awake import ENOUGH, Awake
from punchd.net.splicing import SpliceEnd, Splices, spliceEnds
from tests.unit.link.pairs import User
from tests.unit.net.memory import MemoryTransport, Pair, lost


class Spliced:
    """
    Two users, each with a connection to an end of the splice.
    """

    def __init__(self, left: bool = True, right: bool = True) -> None:
        self.clock = Clock()
        self.ends = spliceEnds()
        self.users = (User(), User())
        self.pairs: dict[int, Pair] = {}
        if left:
            self.connect(0)
        if right:
            self.connect(1)

    def connect(self, which: int) -> None:
        self.pairs[which] = Pair(self.clock, self.users[which], self.ends[which])
        self.flush()

    def transport(self, which: int) -> MemoryTransport:
        """
        The user's own.
        """
        return self.pairs[which].one

    def flush(self) -> None:
        for _ in range(6):
            for pair in self.pairs.values():
                pair.flush()

    def checkEnd(self, which: int, reason: type[Exception]) -> None:
        failure = self.users[which].lost
        assert failure is not None
        assert failure.check(reason)


BOTH = pytest.mark.parametrize("which", [0, 1])


def test_itKnowsHalfClose() -> None:
    verifyObject(IHalfCloseableProtocol, spliceEnds()[0])


@BOTH
def test_whatComesInHereGoesOutThere(which: int) -> None:
    spliced = Spliced()
    spliced.transport(which).write(b"hello")
    spliced.flush()
    assert spliced.users[1 - which].received == b"hello"


@BOTH
def test_theEndOfInputHereEndsOutputThere(which: int) -> None:
    spliced = Spliced()
    spliced.transport(which).write(b"question")
    spliced.transport(which).loseWriteConnection()
    spliced.flush()
    spliced.transport(1 - which).write(b"answer")
    spliced.flush()
    assert spliced.users[1 - which].inputEnded
    assert spliced.users[which].received == b"answer"
    assert not spliced.users[which].inputEnded


@BOTH
def test_whenBothWaysHaveEndedBothConnectionsClose(which: int) -> None:
    spliced = Spliced()
    spliced.transport(which).loseWriteConnection()
    spliced.flush()
    spliced.transport(1 - which).loseWriteConnection()
    spliced.flush()
    spliced.checkEnd(0, ConnectionDone)
    spliced.checkEnd(1, ConnectionDone)


@BOTH
def test_aBreakHereIsABreakThere(which: int) -> None:
    spliced = Spliced()
    spliced.transport(which).abortConnection()
    spliced.flush()
    spliced.checkEnd(1 - which, ConnectionLost)


@BOTH
def test_aTransportThatStopsItsProducerEndsNothingInOrder(which: int) -> None:
    """
    Twisted's transports do so when they are lost, before their protocol hears of it.
    """
    spliced = Spliced()
    producer: Any = spliced.pairs[which].two.producer
    producer.stopProducing()
    spliced.flush()
    other = spliced.users[1 - which]
    assert not other.inputEnded
    assert other.lost is None


@BOTH
def test_aBreakAfterTheEndOfInputIsABreakThere(which: int) -> None:
    spliced = Spliced()
    spliced.transport(which).loseWriteConnection()
    spliced.flush()
    spliced.transport(which).abortConnection()
    spliced.flush()
    spliced.checkEnd(1 - which, ConnectionLost)


@BOTH
def test_whatComesBeforeTheOtherEndIsThereIsNotLost(which: int) -> None:
    spliced = Spliced(left=which == 0, right=which == 1)
    spliced.ends[which].dataReceived(b"already read")
    spliced.transport(which).write(b", and sent later")
    spliced.connect(1 - which)
    assert spliced.users[1 - which].received == b"already read, and sent later"


@BOTH
def test_aGreetingIsSaidFirst(which: int) -> None:
    spliced = Spliced(left=which == 1, right=which == 0)
    spliced.ends[which].greeting = b"greeting "
    spliced.transport(1 - which).write(b"hello")
    spliced.flush()
    spliced.connect(which)
    assert spliced.users[which].received == b"greeting hello"


@BOTH
def test_whileTheOtherEndIsNotThereNothingPilesUp(which: int) -> None:
    spliced = Spliced(left=which == 0, right=which == 1)
    assert spliced.pairs[which].two.isPaused


@BOTH
def test_anEndOfInputBeforeTheOtherEndIsThereIsPassedOn(which: int) -> None:
    spliced = Spliced(left=which == 0, right=which == 1)
    spliced.ends[which].dataReceived(b"all of it")
    spliced.ends[which].readConnectionLost()
    spliced.connect(1 - which)
    user = spliced.users[1 - which]
    assert (user.received, user.inputEnded) == (b"all of it", True)


@BOTH
def test_whoComesAfterABreakIsDisconnected(which: int) -> None:
    spliced = Spliced(left=which == 0, right=which == 1)
    spliced.transport(which).abortConnection()
    spliced.flush()
    spliced.connect(1 - which)
    assert spliced.users[1 - which].lost is not None


def test_whoeverWantsToKnowHearsOfConnectionAndLoss() -> None:
    heard: list[str] = []
    one, two = spliceEnds()
    one.whenConnected = lambda: heard.append("connected")
    one.whenLost = lambda: heard.append("lost")
    pair = Pair(Clock(), User(), one)
    assert heard == ["connected"]
    pair.one.abortConnection()
    pair.flush()
    assert heard == ["connected", "lost"]
    assert two.transport is None


def test_bytesAreCounted() -> None:
    spliced = Spliced()
    spliced.transport(0).write(b"12345")
    spliced.flush()
    assert [end.bytesIn for end in spliced.ends] == [5, 0]


class Slow(MemoryTransport):
    """
    Tells its producer at the first write that it cannot take more.
    """

    def write(self, data: bytes) -> None:
        super().write(data)
        if self.producer is not None:
            producer: Any = self.producer
            producer.pauseProducing()


@BOTH
def test_aSlowReaderHoldsUpTheWriter(which: int) -> None:
    spliced = Spliced(left=False, right=False)
    ends: list[SpliceEnd] = list(spliced.ends)
    transports = [Slow(end, True) for end in ends]
    for end, transport in zip(ends, transports, strict=True):
        end.makeConnection(transport)
    ends[which].dataReceived(b"x")
    assert transports[which].isPaused
    assert not transports[1 - which].isPaused


STEPS = st.lists(
    st.tuples(st.sampled_from([0, 1]), st.sampled_from(["write", "flush", "end"]), st.binary()),
    max_size=20,
)


@given(STEPS, st.integers(0, 20), st.sampled_from([0, 1]))
def test_everyOrderOfDataAndEndsKeepsAllBytes(
    steps: list[tuple[int, str, bytes]], late: int, which: int
) -> None:
    spliced = Spliced(left=which == 0, right=which == 1)
    sent = [b"", b""]
    ended = [False, False]
    for number, (side, what, data) in enumerate([*steps, (0, "flush", b"")]):
        if number == min(late, len(steps)):
            spliced.connect(1 - which)
        if side not in spliced.pairs or what == "flush":
            spliced.flush()
        elif what == "write" and not ended[side]:
            spliced.transport(side).write(data)
            sent[side] += data
        elif what == "end" and not ended[side]:
            spliced.transport(side).loseWriteConnection()
            ended[side] = True
    spliced.flush()
    assert [spliced.users[1].received, spliced.users[0].received] == sent
    assert [spliced.users[1].inputEnded, spliced.users[0].inputEnded] == ended
    for user in spliced.users:
        assert (user.lost is not None) == all(ended)


def test_aConnectionThatWasClosedInOrderAfterBothEndsIsNoBreak() -> None:
    one, two = spliceEnds()
    transports = [MemoryTransport(end, True) for end in (one, two)]
    for end, transport in zip((one, two), transports, strict=True):
        transport.other = MemoryTransport(User(), False)
        end.makeConnection(transport)
    one.readConnectionLost()
    two.readConnectionLost()
    one.connectionLost(lost())
    assert not transports[1].isAborted


def test_theLastOfSeveralSplicesIsWaitedFor() -> None:
    splices = Splices()
    told: list[None] = []
    splices.whenNone().addCallback(told.append)
    assert told == [None]
    spliced = Spliced(left=False, right=False)
    spliced.ends = splices.pair()
    other = splices.pair()[0]
    spliced.connect(0)
    spliced.connect(1)
    other.other.makeConnection(MemoryTransport(other.other, False))
    assert len(splices) == 3
    told.clear()
    splices.whenNone().addCallback(told.append)
    cancelled = splices.whenNone()
    cancelled.addErrback(lambda failure: None)
    cancelled.cancel()
    for user in spliced.users:
        user.transport.loseConnection()
    spliced.flush()
    assert (len(splices), told) == (1, [])
    other.other.connectionLost(Failure(ConnectionDone()))
    assert (len(splices), told) == (0, [None])


def test_whatComesInIsToldToWhoStaysAwakeForIt() -> None:
    clock = Clock()
    spliced = Spliced(left=False, right=False)
    spliced.ends = Splices(Awake(clock)).pair()
    spliced.connect(0)
    spliced.connect(1)
    for number in range(ENOUGH + 1):
        assert not clock.getDelayedCalls()
        spliced.users[number % 2].transport.write(b"x")
        spliced.flush()
    assert clock.getDelayedCalls()
