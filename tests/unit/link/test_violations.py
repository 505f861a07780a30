"""
What the other end may not do, and what it cannot achieve: a session against the test.
"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from punchd.errors import ProtocolViolation
from punchd.link.flow import ABSURD, EARLY, Limits
from punchd.link.keeping import PINGS_AT_ONCE, PINGS_PER_SECOND
from punchd.link.path import Path
from punchd.link.pump import SLACK
from punchd.link.session import Session
from punchd.link.table import BEYOND_AT_ONCE
from punchd.wire.frames import (
    LAST_STREAM,
    MAX_DATA,
    FrameReader,
    Join,
    Joined,
    Kind,
    packEnd,
    packFrame,
    packHead,
    packOpen,
    packOpened,
    packPosition,
    unpackEnd,
)
from tests.unit.link.pairs import User
from tests.unit.link.wires import ALICE, LINK, End, Owner

LIMITS = Limits(
    unacknowledged=200_000,
    buffered=20 * EARLY + 400_000,
    firstWindow=40_000,
    mostWindow=100_000,
    streams=20,
)


class Victim:
    """
    A session that the test has joined as Alice, the initiator.

    @ivar sent: what it has said so far, and was not looked at.
    """

    def __init__(self, joined: bool = True) -> None:
        self.clock = Clock()
        self.owner = Owner()
        self.session = Session(self.clock, LINK, False, ALICE, self.owner, LIMITS)
        self.path = Path(self.clock, lambda: None)
        self.path.peerID = ALICE
        self.path.onJoin = self.session.joined
        self.end = End(self.path)
        self.end.other = End(Protocol())
        self.path.makeConnection(self.end)
        self.path.handshakeCompleted()
        self.reader = FrameReader()
        self.receive(Join(LINK, 1, True, 0).pack())
        if joined:
            self.receive(Joined(0, 0).pack())
        self.said()

    def receive(self, *frames: bytes) -> None:
        self.path.dataReceived(b"".join(frames))
        self.clock.advance(0)

    def said(self) -> list[tuple[Kind, int, bytes]]:
        """
        What it says; it is read at once.
        """
        found: list[tuple[Kind, int, bytes]] = []
        while self.end.sent:
            raw = bytes(self.end.sent)
            self.end.deliver(len(raw))
            found += self.reader.read(raw)
        return found

    @property
    def goodbye(self) -> str | None:
        """
        Why it has ended the link, as it says to the other end.
        """
        for kind, _, payload in self.said():
            if kind is Kind.GOODBYE:
                isNow, why = unpackEnd(payload)
                if isNow:
                    return why
        return None

    def open(self, number: int = 1, user: User | None = None) -> Any:
        self.receive(packOpen(number, 2**20, "ssh"))
        stream, _ = self.owner.asks[-1]
        stream.agree()
        stream.carry(user or User())
        self.said()
        return stream

    def end_(self) -> None:
        self.session.abort("done")
        self.path.connectionLost()
        assert self.clock.getDelayedCalls() == []


def data(number: int, length: int) -> bytes:
    return b"".join(
        packHead(Kind.DATA, min(MAX_DATA, length - at), number) + bytes(min(MAX_DATA, length - at))
        for at in range(0, length, MAX_DATA)
    )


FIN = packFrame(Kind.FIN, b"", 1)
OPEN = packOpen(1, 2**20, "ssh")

VIOLATIONS: dict[str, list[bytes]] = {
    "an unknown kind": [bytes([9]) + bytes(7)],
    "data past the window": [OPEN, data(1, EARLY + 1)],
    "data of a stream that never was": [data(1, 1)],
    "data of a stream of ours that never was": [data(2, 1)],
    "fin of a stream that never was": [FIN],
    "reset of a stream that never was": [packFrame(Kind.RESET, b"why", 5)],
    "credit of a stream that never was": [packPosition(Kind.CREDIT, 5, 3)],
    "a number twice": [OPEN, OPEN],
    "a number again after its stream": [OPEN, packFrame(Kind.RESET, b"", 1), OPEN],
    "a smaller number": [packOpen(3, 0, "ssh"), OPEN],
    "a number of ours": [packOpen(2, 0, "ssh")],
    "data after fin": [OPEN, FIN, data(1, 1)],
    "fin twice": [OPEN, FIN, FIN],
    "credit that shrinks": [OPEN, packPosition(Kind.CREDIT, 5, 1)],
    "absurd credit": [OPEN, packPosition(Kind.CREDIT, ABSURD + 1, 1)],
    "an absurd first window": [packOpen(1, 2**32 - 1, "ssh")],
    "opened by the one who opens": [OPEN, packOpened(1, 5)],
    "refused by the one who opens": [OPEN, packFrame(Kind.REFUSED, b"no", 1)],
    "acknowledging what was never sent": [packPosition(Kind.ACK, 10**6)],
    "pong unasked": [packPosition(Kind.PONG, 12345)],
    "join on a path of a link": [Join(LINK, 2, False, 0).pack()],
    "joined twice": [Joined(0, 0).pack()],
    "declined unasked": [packEnd(Kind.DECLINED, False, "no")],
    "goodbye twice": [packEnd(Kind.GOODBYE, False, "a"), packEnd(Kind.GOODBYE, False, "b")],
    "goodbye of an unknown kind": [packFrame(Kind.GOODBYE, b"\x07why")],
}


@pytest.mark.parametrize("frames", VIOLATIONS.values(), ids=VIOLATIONS.keys())
def test_aViolationEndsTheLinkWithItsReason(frames: list[bytes]) -> None:
    victim = Victim()
    # A stream of ours is there, and must hear of it.
    stream, user = victim.session.openStream("ssh"), User()
    stream.carry(user)
    victim.receive(*frames)
    assert victim.session.isOver
    assert isinstance(victim.path.violation, ProtocolViolation)
    assert victim.goodbye == str(victim.path.violation)
    assert victim.end.isClosing
    assert user.lost is not None
    assert user.lost.check(ConnectionLost)
    assert str(victim.path.violation) in user.lost.getErrorMessage()
    victim.end_()


@pytest.mark.parametrize("frames", VIOLATIONS.values(), ids=VIOLATIONS.keys())
def test_soItDoesOneByteAtATime(frames: list[bytes]) -> None:
    victim = Victim()
    for byte in b"".join(frames):
        victim.receive(bytes([byte]))
    assert victim.session.isOver
    victim.end_()


def test_dataPastTheWindowOfAnOpenStream() -> None:
    victim = Victim()
    stream = victim.open()
    stream.pauseProducing()
    victim.receive(data(1, 40_000))
    assert not victim.session.isOver
    victim.receive(data(1, 1))
    assert victim.goodbye == "1 bytes past the window"
    victim.end_()


@pytest.mark.parametrize("frame", [data(2, 1), packFrame(Kind.FIN, b"", 2)])
def test_whoWasAskedSendsNothingBeforeItAgrees(frame: bytes) -> None:
    victim = Victim()
    victim.session.openStream("ssh")
    victim.clock.advance(0)
    victim.receive(frame)
    assert "where none is allowed" in (victim.goodbye or "")
    victim.end_()


@pytest.mark.parametrize("answer", [packOpened(2, 5), packFrame(Kind.REFUSED, b"no", 2)])
def test_anAnswerComesOnce(answer: bytes) -> None:
    victim = Victim()
    victim.session.openStream("ssh")
    victim.receive(packOpened(2, 5))
    victim.receive(answer)
    assert "where none is allowed" in (victim.goodbye or "")
    victim.end_()


def test_theSequenceDoesNotBeginBeforeItsPlaceIsKnown() -> None:
    victim = Victim(joined=False)
    victim.receive(OPEN)
    assert victim.goodbye == "OPEN before JOINED"
    victim.end_()


@pytest.mark.parametrize("joined", [Joined(0, 5), Joined(10**6, 0)])
def test_noSequenceGoesOnWhereItCannot(joined: Joined) -> None:
    victim = Victim(joined=False)
    victim.receive(joined.pack())
    assert victim.session.isOver
    victim.end_()


def test_beforeAnythingElseThePathMustBeJoined() -> None:
    victim = Victim()
    path = Path(victim.clock, lambda: None)
    end = End(path)
    path.makeConnection(end)
    path.dataReceived(packPosition(Kind.PING, 1))
    assert end.isAborted
    assert not victim.session.isOver
    victim.end_()


@pytest.mark.parametrize(
    "frame",
    [
        data(1, 1),
        FIN,
        packPosition(Kind.CREDIT, 5, 1),
        packFrame(Kind.RESET, b"", 1),
        packFrame(Kind.OPENED, bytes(4), 1),
    ],
)
def test_whatComesForAStreamThatIsClosedIsIgnored(frame: bytes) -> None:
    victim = Victim()
    victim.open().abortConnection()
    victim.receive(frame)
    assert not victim.session.isOver
    victim.end_()


# Floods.


def test_morePingsThanAnybodyNeedsEndTheLink() -> None:
    victim = Victim()
    pings = [packPosition(Kind.PING, number) for number in range(int(PINGS_AT_ONCE))]
    victim.receive(*pings)
    assert not victim.session.isOver
    victim.clock.advance(1)
    victim.receive(*pings)
    assert "PINGs a second" in (victim.goodbye or "")
    victim.end_()


def test_pingsToWhomNobodyListensTakeNoMemory() -> None:
    victim = Victim()
    victim.session.openStream("ssh").write(bytes(EARLY))
    victim.end.isPaused = True
    victim.session._paths.sender.pauseProducing()  # type: ignore[union-attr]
    before = len(victim.end.sent)
    for _ in range(600):
        victim.clock.advance(1 / PINGS_PER_SECOND)
        victim.receive(packPosition(Kind.PING, 7))
    assert len(victim.end.sent) == before
    victim.end_()


def test_streamsBeyondTheLimitAreRefused() -> None:
    victim = Victim()
    victim.receive(*(packOpen(number, 0, "ssh") for number in range(1, 401, 2)))
    refused = [number for kind, number, _ in victim.said() if kind is Kind.REFUSED]
    assert refused == list(range(1 + 2 * LIMITS.streams, 401, 2))
    assert len(victim.session.streams) == LIMITS.streams
    assert len(victim.owner.asks) == LIMITS.streams
    assert not victim.session.isOver
    victim.end_()


def test_whoOpensOnAndOnBeyondTheLimitEndsTheLink() -> None:
    victim = Victim()
    numbers = iter(range(1, LAST_STREAM, 2))
    for _ in range(int(BEYOND_AT_ONCE) // 100):
        victim.receive(*(packOpen(next(numbers), 0, "ssh") for _ in range(100)))
        # It reads, and acknowledges, all of it.
        victim.said()
        victim.receive(packPosition(Kind.ACK, victim.session._pump._outbound.end))
    assert not victim.session.isOver
    victim.receive(*(packOpen(next(numbers), 0, "ssh") for _ in range(100)))
    assert "OPENs a second" in (victim.goodbye or "")
    victim.end_()


def test_whoOpensNowAndThenBeyondTheLimitIsRefused() -> None:
    victim = Victim()
    first = 1
    for _ in range(60):
        victim.receive(*(packOpen(first + 2 * one, 0, "ssh") for one in range(500)))
        first += 1000
        victim.said()
        victim.receive(packPosition(Kind.ACK, victim.session._pump._outbound.end))
        victim.clock.advance(0.5)
        victim.receive(packPosition(Kind.ACK, victim.session._pump._outbound.end))
    assert not victim.session.isOver
    victim.end_()


@pytest.mark.parametrize("reads", [True, False])
def test_whoAcknowledgesNothingIsGivenUp(reads: bool) -> None:
    """
    Each stream that is refused takes a frame, which is kept until it is acknowledged.
    """
    victim = Victim()
    most = 0
    for number in range(1, 100_001, 2):
        victim.receive(packOpen(number, 0, "ssh"))
        if reads:
            victim.said()
        most = max(most, victim.session._pump._outbound.size)
        if victim.session.isOver:
            break
    assert victim.session.isOver
    assert most <= LIMITS.unacknowledged + SLACK + 1000
    victim.end_()


def test_whoNeverReadsHoldsNothingUpButItself() -> None:
    victim = Victim()
    stream = victim.open()
    producer = Producer(stream)
    victim.receive(packPosition(Kind.CREDIT, 2**29, 1))
    for _ in range(100):
        victim.clock.advance(1)
        victim.receive(packPosition(Kind.ACK, 0))
    written = stream.bytesOut
    assert written < 400_000
    assert producer.isPaused
    assert len(victim.end.sent) < 400_000
    victim.end_()


def test_whoAcknowledgesNothingStopsWhatIsSent() -> None:
    victim = Victim()
    stream = victim.open()
    producer = Producer(stream)
    victim.receive(packPosition(Kind.CREDIT, 2**29, 1))
    for _ in range(100):
        victim.said()
        victim.clock.advance(0)
    assert producer.isPaused
    assert victim.session._pump._outbound.size < LIMITS.unacknowledged + 2 * MAX_DATA
    victim.end_()


class Producer:
    """
    Writes as long as it may.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.isPaused = False
        stream.registerProducer(self, True)
        self.resumeProducing()

    def resumeProducing(self) -> None:
        self.isPaused = False
        while not self.isPaused:
            self.stream.write(bytes(10_000))

    def pauseProducing(self) -> None:
        self.isPaused = True

    def stopProducing(self) -> None:
        self.isPaused = True


# Memory.


def test_whatNobodyReadsIsBoundedOverAllStreams() -> None:
    """
    The other end sends all that it is granted, on as many streams as there may be, and nobody
    reads.
    """
    victim = Victim()
    streams = []
    for number in range(1, 2 * LIMITS.streams, 2):
        user = User()
        stream = victim.open(number, user)
        stream.pauseProducing()
        streams.append(stream)
    for number, stream in zip(range(1, 2 * LIMITS.streams, 2), streams, strict=True):
        victim.receive(data(number, stream._input.window.granted))
    unread = sum(sum(map(len, stream._input._unread)) for stream in streams)
    assert unread == sum(stream.bytesIn for stream in streams)
    assert unread <= LIMITS.buffered
    assert not victim.session.isOver
    victim.end_()


def test_aPeerThatGoesRoundWithWindowsGetsNoMoreThanTheBudget() -> None:
    """
    Streams that were fast grow; those that come later still have something, and all together no
    more than the link may take.
    """
    victim = Victim()
    streams = [victim.open(number) for number in range(1, 2 * LIMITS.streams, 2)]
    for number, stream in zip(range(1, 2 * LIMITS.streams, 2), streams, strict=True):
        for _ in range(20):
            window = stream._input.window
            victim.receive(data(number, window.granted - window.received))
    for stream in streams:
        stream.pauseProducing()
    sizes = [stream._input.window.size for stream in streams]
    assert sum(sizes) <= LIMITS.buffered
    assert min(sizes) >= EARLY
    assert max(sizes) == LIMITS.mostWindow
    for stream in streams:
        stream.abortConnection()
    assert victim.session.budget._left == LIMITS.buffered - LIMITS.streams * EARLY
    victim.end_()


@given(st.lists(st.binary(min_size=1, max_size=60), max_size=6))
def test_garbageRaisesNothing(pieces: list[bytes]) -> None:
    victim = Victim()
    for piece in pieces:
        victim.receive(piece)
    victim.end_()


FRAMES = st.builds(
    lambda kind, number, payload: packFrame(kind, payload, number),
    st.sampled_from([Kind.OPEN, Kind.OPENED, Kind.FIN, Kind.RESET, Kind.CREDIT, Kind.DATA]),
    st.integers(1, 8),
    st.sampled_from([b"", b"\x00\x00\x40\x00", bytes(8), b"\x00" * 5 + b"\x01\x00\x00"]),
) | st.sampled_from(
    [packPosition(Kind.ACK, 0), packPosition(Kind.PING, 1), packEnd(Kind.GOODBYE, False, "why")]
)


@given(st.lists(FRAMES, max_size=30), st.booleans())
def test_framesInAnyOrderRaiseNothing(frames: list[bytes], agrees: bool) -> None:
    victim = Victim()

    def answer(stream: Any, service: str) -> None:
        if agrees:
            stream.agree()
            stream.carry(User())

    victim.owner.answer = answer
    victim.session.openStream("ssh").carry(User())
    for frame in frames:
        victim.receive(frame)
    assert len(victim.session.streams) <= LIMITS.streams
    victim.end_()
