"""
Tests for L{punchd.link.sequence}.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from punchd.errors import ProtocolViolation
from punchd.link.sequence import Outbound

CHUNKS = st.lists(st.binary(min_size=1, max_size=20), max_size=20)


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
    assert acknowledged - begins < 20
    assert begins in [len(b"".join(chunks[:count])) for count in range(len(chunks) + 1)]
    assert outbound.acknowledged == acknowledged
    assert outbound.size == len(whole) - begins


def test_whatIsKeptIsWhatWasWritten() -> None:
    outbound = Outbound()
    pieces: list[bytes | memoryview] = [b"head", memoryview(b"payload")]
    outbound.append(pieces, 11)
    [kept] = outbound.unacknowledged()[1]
    assert kept is pieces


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
