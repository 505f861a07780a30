"""
Tests for L{punchd.wire.observing}.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from punchd.errors import IncompatibleVersions, ProtocolViolation, PunchdError, Refused
from punchd.values.addresses import Address, makeAddress, packAddress
from punchd.wire.observing import (
    ANSWER_HEAD_LENGTH,
    MASK_LENGTH,
    QUESTION_LENGTH,
    TOKEN_LENGTH,
    Question,
    answerLength,
    checkBeginning,
    packAnswer,
    unpackAnswer,
)
from tests.unit.values.addressing import ADDRESSES

MASKS = st.binary(min_size=MASK_LENGTH, max_size=MASK_LENGTH)
QUESTIONS = st.builds(Question, st.binary(min_size=TOKEN_LENGTH, max_size=TOKEN_LENGTH), MASKS)

SEEN = makeAddress("198.51.100.7", 4321)
MASK = bytes(range(1, MASK_LENGTH + 1))


def test_theQuestionsBytesAreThoseOfTheManual() -> None:
    assert Question(b"t" * 16, b"m" * 18).pack() == b"PUNCHA\x01\x00" + b"t" * 16 + b"m" * 18


@given(QUESTIONS)
def test_whatWasAskedIsUnpacked(question: Question) -> None:
    assert Question.unpack(question.pack()) == question


@given(ADDRESSES, MASKS)
def test_whatWasAnsweredIsUnpacked(address: Address, mask: bytes) -> None:
    assert unpackAnswer(packAnswer(address, mask), mask) == address


def test_theAnswerDoesNotShowTheAddress() -> None:
    assert packAddress(SEEN)[:4] not in packAnswer(SEEN, MASK)


@given(ADDRESSES, MASKS)
def test_theHeadSaysHowLongTheAnswerIs(address: Address, mask: bytes) -> None:
    answer = packAnswer(address, mask)
    assert answerLength(answer[:ANSWER_HEAD_LENGTH]) == len(answer)


def test_anAnswerWithoutAddressIsARefusalOfTheToken() -> None:
    with pytest.raises(Refused, match="token"):
        unpackAnswer(packAnswer(None, MASK), MASK)


@given(st.binary(max_size=100))
def test_garbageIsNoQuestion(garbage: bytes) -> None:
    try:
        Question.unpack(garbage)
    except PunchdError:
        return
    assert len(garbage) == QUESTION_LENGTH


@given(st.sampled_from([b"", b"PUNCHA\x01"]), st.binary(max_size=40), MASKS)
def test_garbageIsNoAnswer(beginning: bytes, rest: bytes, mask: bytes) -> None:
    garbage = beginning + rest
    try:
        unpackAnswer(garbage, mask)
    except PunchdError:
        return
    assert len(garbage) - ANSWER_HEAD_LENGTH in (6, 18)


@pytest.mark.parametrize("length", [1, 5, 7, 17, 19, 255])
def test_anAddressOfNoFamilysLengthIsAViolation(length: int) -> None:
    with pytest.raises(ProtocolViolation, match=f"{length} bytes"):
        answerLength(b"PUNCHA\x01" + bytes([length]))


def test_aQuestionOfAnotherVersionIsRefusedNamingBoth() -> None:
    question = bytearray(Question(bytes(16), bytes(18)).pack())
    question[6] = 7
    with pytest.raises(IncompatibleVersions, match=r"version 7 .* version 1"):
        Question.unpack(bytes(question))


def test_anAnswerOfAnotherVersionIsRefusedNamingBoth() -> None:
    with pytest.raises(IncompatibleVersions, match=r"version 3 .* version 1"):
        answerLength(b"PUNCHA\x03\x06")


def test_aPreambleIsNotTheBeginningOfAQuestion() -> None:
    with pytest.raises(ProtocolViolation):
        checkBeginning(b"PUNCHD")
