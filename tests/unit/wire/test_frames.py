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
    HEAD_LENGTH,
    MAX_CONTROL,
    MAX_DATA,
    FrameReader,
    Kind,
    packFrame,
    packHead,
)

Frame = tuple[Kind, bytes]

FRAMES = st.lists(
    st.tuples(
        st.sampled_from([kind for kind in Kind if kind is not Kind.DATA]),
        st.binary(max_size=MAX_CONTROL),
    )
    | st.tuples(st.just(Kind.DATA), st.binary(max_size=3000))
)


def packed(frame: Frame) -> bytes:
    kind, payload = frame
    return packHead(kind, len(payload)) + payload


def joined(frames: Iterable[Frame]) -> list[Frame]:
    """
    Pieces of C{DATA} that follow each other as one, and none that is empty.
    """
    whole: list[Frame] = []
    for kind, payload in frames:
        if kind is Kind.DATA and not payload:
            continue
        if kind is Kind.DATA and whole and whole[-1][0] is Kind.DATA:
            whole[-1] = (kind, whole[-1][1] + payload)
        else:
            whole.append((kind, payload))
    return whole


def readIn(pieces: Iterable[bytes]) -> list[Frame]:
    reader = FrameReader()
    return [frame for piece in pieces for frame in reader.read(piece)]


@given(FRAMES, st.lists(st.integers(1, 500)))
def test_anyChunkingGivesTheSameFrames(frames: list[Frame], lengths: list[int]) -> None:
    stream = b"".join(map(packed, frames))
    pieces = []
    for length in lengths:
        pieces.append(stream[:length])
        stream = stream[length:]
    assert joined(readIn([*pieces, stream])) == joined(frames)


@given(FRAMES)
def test_byteByByteGivesTheSameFrames(frames: list[Frame]) -> None:
    stream = b"".join(map(packed, frames[:3]))
    assert joined(readIn(bytes([byte]) for byte in stream)) == joined(frames[:3])


@given(st.lists(st.binary(max_size=200)))
def test_garbageRaisesViolationsOnly(pieces: list[bytes]) -> None:
    reader = FrameReader()
    with contextlib.suppress(ProtocolViolation):
        for piece in pieces:
            list(reader.read(piece))


@given(st.lists(st.binary(min_size=1, max_size=200)))
def test_whatIsKeptIsBounded(pieces: list[bytes]) -> None:
    reader = FrameReader()
    for piece in pieces:
        try:
            list(reader.read(piece))
        except ProtocolViolation:
            return
        assert len(reader._kept) < HEAD_LENGTH + MAX_CONTROL


def test_dataIsHandedOnBeforeItsFrameIsWhole() -> None:
    reader = FrameReader()
    assert list(reader.read(packHead(Kind.DATA, 1000) + b"first")) == [(Kind.DATA, b"first")]


def test_otherFramesWaitUntilTheyAreWhole() -> None:
    reader = FrameReader()
    frame = packFrame(Kind.OPEN, b"ssh")
    assert list(reader.read(frame[:-1])) == []
    assert list(reader.read(frame[-1:])) == [(Kind.OPEN, b"ssh")]


@pytest.mark.parametrize("kind", [0, 9, 255])
def test_anUnknownKindIsAViolation(kind: int) -> None:
    with pytest.raises(ProtocolViolation, match=f"unknown kind {kind}"):
        readIn([bytes([kind, 0, 0, 0])])


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.DATA])
def test_aControlFrameThatIsTooLongIsRefusedByItsHead(kind: Kind) -> None:
    with pytest.raises(ProtocolViolation, match=f"{kind.name} of {MAX_CONTROL + 1} bytes"):
        readIn([packHead(kind, MAX_CONTROL + 1)])


def test_dataThatIsTooLongIsRefusedByItsHead() -> None:
    with pytest.raises(ProtocolViolation, match=f"DATA of {MAX_DATA + 1} bytes"):
        readIn([packHead(Kind.DATA, MAX_DATA + 1)])


def test_theLongestDataIsAllowed() -> None:
    assert joined(readIn([packHead(Kind.DATA, MAX_DATA), bytes(MAX_DATA)])) == [
        (Kind.DATA, bytes(MAX_DATA))
    ]


def test_whatCameBeforeAViolationIsRead() -> None:
    frames = FrameReader().read(packFrame(Kind.PING, b"1") + b"\xff\xff\xff\xff")
    assert next(frames) == (Kind.PING, b"1")
    with pytest.raises(ProtocolViolation):
        next(frames)


def test_aReasonThatIsTooLongIsCut() -> None:
    assert readIn([packFrame(Kind.REFUSED, b"w" * 5000)]) == [(Kind.REFUSED, b"w" * MAX_CONTROL)]


def test_theHeadsBytesAreThoseOfTheManual() -> None:
    assert packHead(Kind.DATA, 0x010203 & 0xFFFF) == b"\x04\x00\x02\x03"
