"""
Tests for L{punchd.wire.preamble}.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from punchd.errors import IncompatibleVersions, ProtocolViolation, PunchdError
from punchd.wire.preamble import (
    NONCE_LENGTH,
    PREAMBLE_LENGTH,
    SESSION_LENGTH,
    Preamble,
    Side,
    checkBeginning,
)

PREAMBLES = st.builds(
    Preamble,
    st.sampled_from(Side),
    st.binary(min_size=SESSION_LENGTH, max_size=SESSION_LENGTH),
    st.binary(min_size=NONCE_LENGTH, max_size=NONCE_LENGTH),
)

ONE = Preamble(Side.CALLEE, bytes(range(16)), bytes(range(16, 32)))


def test_theBytesAreThoseOfTheManual() -> None:
    assert ONE.pack() == b"PUNCHD\x01\x01" + bytes(range(32))


@given(PREAMBLES)
def test_whatWasPackedIsUnpacked(preamble: Preamble) -> None:
    assert Preamble.unpack(preamble.pack()) == preamble


@given(PREAMBLES, st.integers(0, PREAMBLE_LENGTH))
def test_noBeginningOfAPreambleIsAStranger(preamble: Preamble, length: int) -> None:
    checkBeginning(preamble.pack()[:length])


@given(st.binary(max_size=100))
def test_garbageIsRefusedAsAViolationOrAnotherVersion(garbage: bytes) -> None:
    try:
        Preamble.unpack(garbage)
    except PunchdError:
        return
    assert len(garbage) == PREAMBLE_LENGTH


@pytest.mark.parametrize("greeting", [b"SSH-2.0-", b"GET / HT", b"\x16\x03\x01", b"p", b"PUNCHA"])
def test_aStrangerIsNoticedAtItsFirstBytes(greeting: bytes) -> None:
    with pytest.raises(ProtocolViolation, match="no punchd peer"):
        checkBeginning(greeting)


def test_anotherVersionIsRefusedNamingBoth() -> None:
    with pytest.raises(IncompatibleVersions, match=r"version 9 .* this one version 1"):
        Preamble.unpack(b"PUNCHD\x09\x01" + bytes(32))


def test_aThirdSideIsAViolation() -> None:
    with pytest.raises(ProtocolViolation, match="side 2"):
        Preamble.unpack(b"PUNCHD\x01\x02" + bytes(32))


@pytest.mark.parametrize("length", [7, 8, PREAMBLE_LENGTH - 1, PREAMBLE_LENGTH + 1])
def test_aPreambleOfAnotherLengthIsAViolation(length: int) -> None:
    with pytest.raises(ProtocolViolation, match=f"not {length}"):
        Preamble.unpack((ONE.pack() + b"x")[:length])


def test_theSidesAreEachOthersOther() -> None:
    assert [side.other for side in Side] == [Side.CALLEE, Side.CALLER]
