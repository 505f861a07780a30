"""
Tests for L{punchd.wire.frames}.
"""

import contextlib
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from punchd.errors import ProtocolViolation
from punchd.wire.frames import (
    FULL_DATA,
    HEAD_LENGTH,
    LAST_STREAM,
    MAX_CONTROL,
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
    textOf,
    unpackEnd,
    unpackOpen,
    unpackPosition,
)

Frame = tuple[Kind, int, bytes]

#: The least and the most bytes that may follow a head.
LENGTHS = {
    Kind.OPEN: (4, MAX_CONTROL),
    Kind.OPENED: (4, 4),
    Kind.REFUSED: (0, MAX_CONTROL),
    Kind.DATA: (1, MAX_DATA),
    Kind.FIN: (0, 0),
    Kind.RESET: (0, MAX_CONTROL),
    Kind.CREDIT: (8, 8),
    Kind.GOODBYE: (1, MAX_CONTROL),
    Kind.JOIN: (29, 29),
    Kind.JOINED: (16, 16),
    Kind.DECLINED: (1, MAX_CONTROL),
    Kind.PING: (8, 8),
    Kind.PONG: (8, 8),
    Kind.ACK: (8, 8),
}
WITHOUT_STREAM = {kind for kind in Kind if kind >= Kind.JOIN} | {Kind.GOODBYE}

STREAMS = st.integers(1, LAST_STREAM)


def framesOf(kind: Kind) -> st.SearchStrategy[Frame]:
    least, most = LENGTHS[kind]
    return st.tuples(
        st.just(kind),
        st.just(0) if kind in WITHOUT_STREAM else STREAMS,
        st.binary(min_size=least, max_size=min(most, 3000)),
    )


FRAMES = st.lists(st.sampled_from(Kind).flatmap(framesOf))


def packed(frame: Frame) -> bytes:
    kind, stream, payload = frame
    return packHead(kind, len(payload), stream) + payload


def joined(frames: Iterable[Frame]) -> list[Frame]:
    """
    Pieces of C{DATA} of one stream that follow each other as one.
    """
    whole: list[Frame] = []
    for kind, stream, payload in frames:
        if kind is Kind.DATA and whole and whole[-1][:2] == (kind, stream):
            whole[-1] = (kind, stream, whole[-1][2] + payload)
        else:
            whole.append((kind, stream, payload))
    return whole


def cut(sequence: bytes, lengths: Iterable[int]) -> list[bytes]:
    pieces = []
    for length in lengths:
        pieces.append(sequence[:length])
        sequence = sequence[length:]
    return [*pieces, sequence]


def sequenceLength(frames: Iterable[Frame]) -> int:
    return sum(len(packed(frame)) for frame in frames if frame[0] < Kind.JOIN)


@given(FRAMES, st.lists(st.integers(1, 500)))
def test_anyCuttingGivesTheSameFramesAndPosition(frames: list[Frame], lengths: list[int]) -> None:
    reader = FrameReader()
    pieces = cut(b"".join(map(packed, frames)), lengths)
    assert joined(frame for piece in pieces for frame in reader.read(piece)) == joined(frames)
    assert reader.position == sequenceLength(frames)


@given(FRAMES, st.lists(st.integers(1, 500)), st.data())
def test_whoStopsGetsTheRestLater(
    frames: list[Frame], lengths: list[int], data: st.DataObject
) -> None:
    reader = FrameReader()
    found: list[Frame] = []
    for piece in cut(b"".join(map(packed, frames)), lengths):
        memory = bytearray(piece)
        received: bytes | memoryview = memoryview(memory)
        while True:
            hasStopped = False
            for frame in reader.read(received):
                assert not hasStopped
                found.append(frame)
                if data.draw(st.booleans()):
                    reader.stop()
                    hasStopped = True
            # The memory is used for something else.
            memory[:] = bytes(len(memory))
            received = b""
            if not reader.hasMore:
                break
            assert hasStopped
    assert joined(found) == joined(frames)
    assert reader.position == sequenceLength(frames)


def test_whoReadsMaySoonStop() -> None:
    frame = packHead(Kind.DATA, 1, 1) + b"x"
    reader = FrameReader()
    found = []
    for _, _, payload in reader.read(frame * 10_000):
        found.append(len(payload))
        reader.stop()
    assert found == [1024]
    assert reader.hasMore
    assert sum(len(payload) for _, _, payload in reader.read(b"")) == 10_000 - 1024


@given(FRAMES)
def test_byteByByteGivesTheSameFrames(frames: list[Frame]) -> None:
    reader = FrameReader()
    sequence = b"".join(map(packed, frames[:3]))
    found = [frame for byte in sequence for frame in reader.read(bytes([byte]))]
    assert joined(found) == joined(frames[:3])
    assert reader.position == sequenceLength(frames[:3])


@given(FRAMES.filter(bool), st.lists(st.integers(1, 500)), st.data())
def test_thePositionIsThatOfWhatWasHandedOn(
    frames: list[Frame], lengths: list[int], data: st.DataObject
) -> None:
    """
    Where one reader stops anywhere, another that knows the position hands on exactly the rest, if
    it gets everything again from the beginning of any frame.
    """
    sequenced = [frame for frame in frames if frame[0] < Kind.JOIN]
    whole = b"".join(map(packed, sequenced))
    stop = data.draw(st.integers(0, len(whole)))
    first, second = FrameReader(), FrameReader()
    before = list(first.read(whole[:stop]))
    again = 0
    for frame in sequenced:
        after = again + len(packed(frame))
        if after > first.position or not data.draw(st.booleans()):
            break
        again = after
    second.begin(again, first.position)
    pieces = cut(whole[again:], lengths)
    rest = [frame for piece in pieces for frame in second.read(piece)]
    assert joined([*before, *rest]) == joined(sequenced)
    assert second.position == len(whole)


def test_framesOfThePathAreHandedOnWhileOthersAreSkipped() -> None:
    reader = FrameReader()
    fin, ping = packFrame(Kind.FIN, b"", 1), packPosition(Kind.PING, 7)
    reader.begin(0, 2 * len(fin))
    found = [kind for kind, _, _ in reader.read(fin + ping + fin + fin)]
    assert found == [Kind.PING, Kind.FIN]


@given(st.lists(st.binary(max_size=200)))
def test_garbageRaisesViolationsOnly(pieces: list[bytes]) -> None:
    reader = FrameReader()
    with contextlib.suppress(ProtocolViolation):
        for piece in pieces:
            list(reader.read(piece))


@given(FRAMES, st.lists(st.integers(1, 500)))
def test_whatIsKeptIsBounded(frames: list[Frame], lengths: list[int]) -> None:
    reader = FrameReader()
    for piece in cut(b"".join(map(packed, frames)), lengths):
        list(reader.read(piece))
        assert len(reader._kept) < HEAD_LENGTH + MAX_CONTROL


def test_dataIsHandedOnBeforeItsFrameIsWhole() -> None:
    reader = FrameReader()
    assert list(reader.read(packHead(Kind.DATA, 1000, 1) + b"first")) == [(Kind.DATA, 1, b"first")]
    assert reader.position == HEAD_LENGTH + 5


def test_whatCameOfAStreamGoesOnTogether() -> None:
    one, two = (packHead(Kind.DATA, 3, stream) for stream in (1, 2))
    sent = one + b"abc" + one + b"def" + two + b"ghi" + one + b"jk"
    reader = FrameReader()
    read = []
    for _, stream, payload in reader.read(memoryview(sent)):
        read.append((stream, payload, reader.position))
    # Each counts when it is handed on.
    assert read == [(1, b"abcdef", 22), (2, b"ghi", 33), (1, b"jk", 43)]


def test_otherFramesWaitUntilTheyAreWhole() -> None:
    reader = FrameReader()
    frame = packOpen(1, 5, "ssh")
    assert list(reader.read(frame[:-1])) == []
    assert reader.position == 0
    [(kind, stream, payload)] = reader.read(frame[-1:])
    assert (kind, stream, unpackOpen(payload)) == (Kind.OPEN, 1, (5, "ssh"))
    assert reader.position == len(frame)


@pytest.mark.parametrize("kind", [0, 9, 15, 22, 255])
def test_anUnknownKindIsAViolation(kind: int) -> None:
    with pytest.raises(ProtocolViolation, match=f"unknown kind {kind}"):
        list(FrameReader().read(bytes([kind]) + bytes(7)))


@pytest.mark.parametrize("kind", Kind)
def test_aFrameThatIsTooLongIsRefusedByItsHead(kind: Kind) -> None:
    length = LENGTHS[kind][1] + 1
    with pytest.raises(ProtocolViolation, match=f"{kind.name} of {length} bytes"):
        list(FrameReader().read(packHead(kind, length, kind not in WITHOUT_STREAM)))


@pytest.mark.parametrize("kind", [kind for kind in Kind if LENGTHS[kind][0]])
def test_aFrameThatIsTooShortIsRefusedByItsHead(kind: Kind) -> None:
    length = LENGTHS[kind][0] - 1
    with pytest.raises(ProtocolViolation, match=f"{kind.name} of {length} bytes"):
        list(FrameReader().read(packHead(kind, length, kind not in WITHOUT_STREAM)))


@pytest.mark.parametrize("kind", Kind)
def test_aStreamWhereNoneBelongsIsRefused(kind: Kind) -> None:
    length = LENGTHS[kind][0]
    with pytest.raises(ProtocolViolation, match=f"{kind.name} of stream"):
        list(FrameReader().read(packHead(kind, length, kind in WITHOUT_STREAM)))


def test_theLongestDataIsAllowed() -> None:
    reader = FrameReader()
    found = reader.read(packHead(Kind.DATA, MAX_DATA, 1) + bytes(MAX_DATA))
    assert joined(found) == [(Kind.DATA, 1, bytes(MAX_DATA))]


def test_fullDataFillsTLSRecords() -> None:
    assert (HEAD_LENGTH + FULL_DATA) % 16384 == 0


def test_whatCameBeforeAViolationIsRead() -> None:
    frames = FrameReader().read(packPosition(Kind.PING, 1) + b"\xff" * HEAD_LENGTH)
    assert next(frames)[0] is Kind.PING
    with pytest.raises(ProtocolViolation):
        next(frames)


def test_aReasonThatIsTooLongIsCut() -> None:
    [(kind, stream, payload)] = FrameReader().read(packFrame(Kind.REFUSED, b"w" * 5000, 1))
    assert (kind, stream, payload) == (Kind.REFUSED, 1, b"w" * MAX_CONTROL)


def payloadOf(frame: bytes) -> bytes:
    [(_, _, payload)] = FrameReader().read(frame)
    return payload


POSITIONS = st.integers(0, 2**64 - 1)


@given(st.binary(min_size=16, max_size=16), st.integers(0, 2**32 - 1), st.booleans(), POSITIONS)
def test_joinIsReadAsItWasWritten(link: bytes, generation: int, isNew: bool, at: int) -> None:
    join = Join(link, generation, isNew, at)
    assert Join.unpack(payloadOf(join.pack())) == join


def test_joinWithUnknownFlagsIsAViolation() -> None:
    payload = bytearray(payloadOf(Join(bytes(16), 1, True, 0).pack()))
    payload[20] = 2
    with pytest.raises(ProtocolViolation, match="flags 2"):
        Join.unpack(bytes(payload))


@given(POSITIONS, POSITIONS)
def test_joinedIsReadAsItWasWritten(received: int, begins: int) -> None:
    joined = Joined(received, begins)
    assert Joined.unpack(payloadOf(joined.pack())) == joined


@given(POSITIONS)
def test_aPositionIsReadAsItWasWritten(position: int) -> None:
    assert unpackPosition(payloadOf(packPosition(Kind.ACK, position))) == position


@given(st.integers(0, 2**32 - 1))
def test_aWindowIsReadAsItWasWritten(window: int) -> None:
    assert unpackOpen(payloadOf(packOpened(1, window))) == (window, "")


@pytest.mark.parametrize("kind", [Kind.GOODBYE, Kind.DECLINED])
@pytest.mark.parametrize("isFinal", [True, False])
def test_anEndIsReadAsItWasWritten(kind: Kind, isFinal: bool) -> None:
    assert unpackEnd(payloadOf(packEnd(kind, isFinal, "see you"))) == (isFinal, "see you")


def test_anEndOfUnknownKindIsAViolation() -> None:
    with pytest.raises(ProtocolViolation, match="kind 2"):
        unpackEnd(b"\x02why")


def test_whatIsSaidToPeopleDoesNotControlTheirTerminal() -> None:
    assert textOf(b"no such service\x1b[2J\xff") == "no such service?[2J\N{REPLACEMENT CHARACTER}"


def test_theHeadsBytesAreThoseOfTheManual() -> None:
    assert packHead(Kind.DATA, 0x0203, 0x01020304) == b"\x04\x00\x02\x03\x01\x02\x03\x04"
