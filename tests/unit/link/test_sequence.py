"""
Tests for L{punchd.link.sequence}.
"""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from punchd.errors import ProtocolViolation
from punchd.link.sequence import SMALL, TOGETHER, Outbound

CHUNKS = st.lists(st.binary(min_size=1, max_size=2 * SMALL), max_size=30)


@given(CHUNKS, st.data())
def test_whatIsNotAcknowledgedIsThereFromTheBeginningOfAChunk(
    chunks: list[bytes], data: st.DataObject
) -> None:
    outbound = Outbound()
    whole = b"".join(chunks)
    for chunk in chunks:
        outbound.append([chunk], len(chunk))
    acknowledged = 0
    for _ in range(3):
        received = data.draw(st.integers(0, len(whole)))
        outbound.acknowledge(received)
        acknowledged = max(acknowledged, received)
    begins, entries = outbound.unacknowledged()
    assert b"".join(bytes(piece) for pieces in entries for piece in pieces) == whole[begins:]
    assert begins <= acknowledged
    assert acknowledged - begins < TOGETHER
    assert begins in [len(b"".join(chunks[:count])) for count in range(len(chunks) + 1)]
    assert outbound.acknowledged == acknowledged
    assert outbound.size == len(whole) - begins


def test_whatIsKeptIsWhatWasWritten() -> None:
    outbound = Outbound()
    payload = bytes(3 * SMALL)
    pieces: list[bytes | memoryview] = [b"head", memoryview(payload)]
    outbound.append(pieces, 4 + len(payload))
    [kept] = outbound.unacknowledged()[1]
    assert kept is pieces


@pytest.mark.parametrize("atOnce", [1, 1000])
def test_smallFramesTakeLittleMoreThanTheirBytes(atOnce: int) -> None:
    outbound = Outbound()
    frames = 100_000
    tracemalloc.start()
    try:
        for number in range(frames // atOnce):
            # Each is an object of its own.
            pieces = [b"%08d" % (number + one) for one in range(atOnce)]
            outbound.append(pieces, 8 * atOnce)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert outbound.size == 8 * frames
    assert held < 1.5 * outbound.size


def test_whatIsSmallIsKeptTogetherUntilAllOfItIsThere() -> None:
    outbound = Outbound()
    outbound.append([b"ab"], 2)
    outbound.append([b"c", b"d"], 2)
    outbound.acknowledge(3)
    assert outbound.size == 4
    assert list(outbound.unacknowledged()[1]) == [[b"abcd"]]
    outbound.acknowledge(4)
    assert outbound.size == 0


def test_whatWasNeverSentCannotBeAcknowledged() -> None:
    outbound = Outbound()
    outbound.append([b"x"], 1)
    with pytest.raises(ProtocolViolation, match="2 bytes of 1"):
        outbound.acknowledge(2)


def test_whatComesLateTakesNothingBack() -> None:
    outbound = Outbound()
    outbound.append([b"abc"], 3)
    outbound.acknowledge(3)
    outbound.acknowledge(1)
    assert outbound.acknowledged == 3
    assert outbound.size == 0
