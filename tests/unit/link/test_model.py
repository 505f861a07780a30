"""
Two sessions against a model: whatever happens to their paths, what is read is what was written.
"""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from punchd.link.flow import EARLY, Limits
from punchd.link.pump import SLACK
from punchd.link.stream import Stream
from tests.unit.link.pairs import User
from tests.unit.link.wires import Link

LIMITS = Limits(
    unacknowledged=100_000,
    buffered=8 * EARLY + 200_000,
    firstWindow=2 * EARLY,
    mostWindow=8 * EARLY,
    streams=8,
)

#: What is written: so long, and so irregular, that no two places look the same.
PATTERN = b"".join(number.to_bytes(3, "big") for number in range(300_000))


class Side(User):
    """
    One end of a stream, what it has written, and what it should have read.
    """

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self.stream = stream
        self.other: Side | None = None
        self.written = 0
        self.hasEnded = False
        self.mayBreak = False
        stream.carry(self)

    def write(self, length: int) -> None:
        if not self.hasEnded:
            length = min(length, len(PATTERN) - self.written)
            self.stream.write(PATTERN[self.written : self.written + length])
            self.written += length

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self.hasEnded = True
        if f"there are {LIMITS.streams} streams" in reason.getErrorMessage():
            self.mayBreak = True

    def check(self) -> None:
        assert self.received == PATTERN[: len(self.received)]
        if self.other is not None:
            assert len(self.received) <= self.other.written
            if self.inputEnded:
                assert len(self.received) == self.other.written
            if self.lost is not None and self.lost.check(ConnectionDone):
                assert self.inputEnded
                # It may not have been read, but it is there.
                assert self.other.stream.bytesIn == self.written


class Sessions(RuleBasedStateMachine):
    """
    All that may happen to a link, in any order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.link = Link(LIMITS, join=False)
        self.sides: list[Side] = []
        self.openers: dict[tuple[bool, int], Side] = {}
        self.waiting: list[Stream] = []
        self.link.aliceOwner.answer = self.asked
        self.link.bobOwner.answer = self.asked

    def asked(self, stream: Stream, service: str) -> None:
        self.waiting.append(stream)

    @initialize(streams=st.integers(0, 3))
    def begin(self, streams: int) -> None:
        """
        Most begin with something to work on.
        """
        if streams:
            self.link.connect()
            self.link.flush()
            for number in range(streams):
                self.open(number % 2 == 0, 0)
                self.link.flush()
                self.answer(False)

    @rule(byAlice=st.booleans())
    def connect(self, byAlice: bool) -> None:
        if len(self.link.wires) < 4:
            self.link.connect(byAlice)

    @precondition(lambda self: self.link.wires)
    @rule(data=st.data(), most=st.sampled_from([1, 3, 8, 20, 500, 40_000, 1 << 30]))
    def deliver(self, data: Any, most: int) -> None:
        wire = data.draw(st.sampled_from(self.link.wires))
        end = data.draw(st.sampled_from(wire.ends))
        if wire.isOpen and not any(each.isAborted for each in wire.ends):
            end.deliver(most)
        self.tidy()

    @precondition(lambda self: self.link.wires)
    @rule()
    def deliverAll(self) -> None:
        self.link.flush()
        self.tidy()

    @precondition(lambda self: self.link.wires)
    @rule(data=st.data())
    def step(self, data: Any) -> None:
        data.draw(st.sampled_from(self.link.wires)).step()
        self.tidy()

    @precondition(lambda self: self.link.wires)
    @rule(data=st.data())
    def kill(self, data: Any) -> None:
        data.draw(st.sampled_from(self.link.wires)).kill()
        self.tidy()

    def tidy(self) -> None:
        self.link.wires = [wire for wire in self.link.wires if wire.isOpen]

    @rule(byAlice=st.booleans())
    def leave(self, byAlice: bool) -> None:
        self.link.sessions[byAlice].leavePath("the test says so")

    @rule(seconds=st.sampled_from([0.0, 0.0, 0.05, 0.2, 1.0]))
    def wait(self, seconds: float) -> None:
        self.link.clock.advance(seconds)

    @rule(byAlice=st.booleans(), early=st.integers(0, 40_000))
    def open(self, byAlice: bool, early: int) -> None:
        session = self.link.alice if byAlice else self.link.bob
        stream = session.openStream("ssh")
        side = Side(stream)
        self.sides.append(side)
        self.openers[byAlice, stream.number] = side
        side.write(early)

    @precondition(lambda self: self.waiting)
    @rule(refuses=st.sampled_from([False, False, False, True]))
    def answer(self, refuses: bool) -> None:
        stream = self.waiting.pop(0)
        opener = self.openers[stream.number % 2 == 1, stream.number]
        if refuses:
            opener.mayBreak = True
            stream.refuse("no")
            return
        stream.agree()
        side = Side(stream)
        side.other, opener.other = opener, side
        side.mayBreak = opener.mayBreak
        self.sides.append(side)

    @precondition(lambda self: self.sides)
    @rule(
        data=st.data(),
        what=st.sampled_from(["write", "write", "pause", "resume", "end", "close", "break"]),
        length=st.sampled_from([1, 100, 5_000, 70_000, 200_000]),
    )
    def use(self, data: Any, what: str, length: int) -> None:
        side = data.draw(st.sampled_from(self.sides))
        stream = side.stream
        if what == "write":
            side.write(length)
        elif what == "pause":
            stream.pauseProducing()
        elif what == "resume":
            stream.resumeProducing()
        elif what == "end":
            side.hasEnded = True
            stream.loseWriteConnection()
        elif what == "close":
            # What the other end still sends may break the stream.
            side.hasEnded = True
            self.mayBreak(side)
            stream.loseConnection()
        else:
            self.mayBreak(side)
            stream.abortConnection()

    def mayBreak(self, side: Side) -> None:
        side.mayBreak = True
        if side.other is not None:
            side.other.mayBreak = True

    @invariant()
    def whatIsReadIsWhatWasWritten(self) -> None:
        for side in self.sides:
            side.check()

    @invariant()
    def onlyWhatWasBrokenBreaks(self) -> None:
        for side in self.sides:
            if side.lost is not None and not side.mayBreak:
                assert side.lost.check(ConnectionDone), side.lost

    @invariant()
    def memoryIsBounded(self) -> None:
        for session in self.link.sessions:
            assert not session.isOver
            held = session._pump._outbound.size
            assert held <= LIMITS.unacknowledged + 2 * 65544 + SLACK
            unread = sum(len(data) for stream in session.streams for data in stream._input._unread)
            assert unread <= LIMITS.buffered

    def teardown(self) -> None:
        link = self.link
        self.tidy()
        if not link.wires or not (link.alice.isConnected and link.bob.isConnected):
            for wire in link.wires:
                wire.kill()
            self.tidy()
            link.connect()
        while self.waiting or self.unfinished():
            link.advance(1)
            while self.waiting:
                self.answer(False)
            for side in self.sides:
                side.stream.resumeProducing()
                side.stream.loseWriteConnection()
                side.hasEnded = True
            assert link.clock.seconds() < 400
        link.advance(1)
        for side in self.sides:
            side.check()
            if not side.mayBreak:
                assert side.lost is not None
                assert side.lost.check(ConnectionDone)
            elif side.lost is not None:
                assert side.lost.check(ConnectionDone, ConnectionLost)
        for session in link.sessions:
            assert not session.streams
            assert session._pump.hasArrived
        link.alice.close("done")
        link.advance(5)
        assert link.alice.isOver
        assert link.bob.isOver
        assert link.clock.getDelayedCalls() == []
        assert not link.wires

    def unfinished(self) -> bool:
        return any(side.lost is None for side in self.sides)


Sessions.TestCase.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
test_anythingMayHappenToALink = Sessions.TestCase
