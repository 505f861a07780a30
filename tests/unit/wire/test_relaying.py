"""
Tests for L{punchd.wire.relaying}.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from punchd.errors import IncompatibleVersions, ProtocolViolation, PunchdError, Refused
from punchd.wire.relaying import (
    ANSWER_HEAD_LENGTH,
    MAX_REASON,
    OPENING_LENGTH,
    TOKEN_LENGTH,
    AnswerReader,
    Opening,
    checkBeginning,
    packAcceptance,
    packRefusal,
)

TOKENS = st.binary(min_size=TOKEN_LENGTH, max_size=TOKEN_LENGTH)
CUTS = st.lists(st.integers(1, 40))


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    found = []
    for cut in cuts:
        found.append(data[:cut])
        data = data[cut:]
    return [*found, data]


def readAll(reader: AnswerReader, data: bytes, cuts: list[int]) -> bytes | None:
    """
    What came behind the answer, when C{data} comes in pieces.
    """
    rest = None
    for piece in pieces(data, cuts):
        if rest is None:
            rest = reader.read(piece)
        else:
            rest += piece
    return rest


def test_theOpeningsBytesAreThoseOfTheManual() -> None:
    assert Opening(b"t" * 16).pack() == b"PUNCHR\x01\x00" + b"t" * 16


@given(TOKENS)
def test_theTokenThatWasShownIsUnpacked(token: bytes) -> None:
    assert Opening.unpack(Opening(token).pack()) == Opening(token)


@given(st.binary(max_size=100), CUTS)
def test_whatFollowsAnAcceptanceIsTheOtherEnds(following: bytes, cuts: list[int]) -> None:
    assert readAll(AnswerReader(), packAcceptance() + following, cuts) == following


@given(st.text(max_size=400), CUTS)
def test_aRefusalsReasonIsReadHoweverItComes(reason: str, cuts: list[int]) -> None:
    packed = packRefusal(reason)
    assert ANSWER_HEAD_LENGTH < len(packed) <= ANSWER_HEAD_LENGTH + MAX_REASON
    with pytest.raises(Refused) as caught:
        readAll(AnswerReader(), packed, cuts)
    assert len(str(caught.value)) > 0
    assert str(caught.value).isprintable()
    if reason.isprintable() and 0 < len(reason.encode()) <= MAX_REASON:
        assert str(caught.value) == reason


def test_aReasonIsNotCutInsideACharacter() -> None:
    packed = packRefusal("é" * 200)
    packed[ANSWER_HEAD_LENGTH:].decode("utf-8")
    assert len(packed) == ANSWER_HEAD_LENGTH + MAX_REASON - 1


def test_aRefusalWithoutAReasonIsNoAcceptance() -> None:
    with pytest.raises(Refused, match="no reason"):
        AnswerReader().read(packRefusal(""))


@given(st.binary(max_size=60))
def test_garbageIsNoOpening(garbage: bytes) -> None:
    try:
        Opening.unpack(garbage)
    except PunchdError:
        return
    assert len(garbage) == OPENING_LENGTH


@given(st.sampled_from([b"", b"PUNCHR", b"PUNCHR\x01"]), st.binary(max_size=400), CUTS)
def test_garbageIsAnAnswerOrAnErrorOfOurs(beginning: bytes, rest: bytes, cuts: list[int]) -> None:
    data = beginning + rest
    try:
        following = readAll(AnswerReader(), data, cuts)
    except PunchdError:
        return
    if following is None:
        # Not whole yet: only what an answer may begin with, and never more than one holds.
        assert len(data) < ANSWER_HEAD_LENGTH + MAX_REASON
        checkBeginning(data)
    else:
        assert data == packAcceptance() + following


def test_anOpeningOfAnotherVersionIsRefusedNamingBoth() -> None:
    with pytest.raises(IncompatibleVersions, match=r"version 7 of the relay .* version 1"):
        Opening.unpack(b"PUNCHR\x07\x00" + bytes(16))


def test_anAnswerOfAnotherVersionIsRefusedNamingBoth() -> None:
    with pytest.raises(IncompatibleVersions, match=r"version 3 of the relay .* version 1"):
        AnswerReader().read(b"PUNCHR\x03")


def test_aQuestionToTheAssistServiceIsNoOpening() -> None:
    with pytest.raises(ProtocolViolation, match="relay protocol"):
        checkBeginning(b"PUNCHA")
