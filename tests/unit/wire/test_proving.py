"""
Tests for L{punchd.wire.proving}.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from punchd.errors import IncompatibleVersions, ProtocolViolation
from punchd.wire.proving import CHALLENGE_LENGTH, SEAL_LENGTH, Challenge, mayBegin

SECRET = bytes(range(32))
NONCE = bytes(range(16))


def test_whoKnowsTheSecretAnswers() -> None:
    challenge = Challenge.make(SECRET, NONCE)
    answer = Challenge.unpack(challenge.pack()).answer([bytes(32), SECRET])
    assert answer is not None
    assert len(answer) == SEAL_LENGTH
    assert challenge.isAnswered(answer, SECRET)


def test_whoDoesNotKnowItHasNoAnswer() -> None:
    assert Challenge.make(SECRET, NONCE).answer([bytes(32), b"x" * 32]) is None


def test_theChallengeItselfIsNoAnswer() -> None:
    """
    So an echo service at that address proves nothing.
    """
    challenge = Challenge.make(SECRET, NONCE)
    assert not challenge.isAnswered(challenge.seal, SECRET)
    assert not challenge.isAnswered(challenge.pack()[:SEAL_LENGTH], SECRET)


def test_anAnswerIsGoodForOneChallenge() -> None:
    answer = Challenge.make(SECRET, NONCE).answer([SECRET])
    assert answer is not None
    assert not Challenge.make(SECRET, bytes(16)).isAnswered(answer, SECRET)


def test_anotherVersionIsNamed() -> None:
    packed = bytearray(Challenge.make(SECRET, NONCE).pack())
    packed[6] = 9
    with pytest.raises(IncompatibleVersions, match="9"):
        Challenge.unpack(bytes(packed))


def test_aPreambleBeginsNoChallenge() -> None:
    assert mayBegin(b"PUNCH")
    assert not mayBegin(b"PUNCHD")


@given(st.one_of(st.binary(max_size=80), st.binary(max_size=80).map(lambda end: b"PUNCHC" + end)))
def test_anythingIsAChallengeOrRefused(received: bytes) -> None:
    try:
        challenge = Challenge.unpack(received)
    except (ProtocolViolation, IncompatibleVersions):
        return
    assert len(received) == CHALLENGE_LENGTH
    assert challenge.answer([SECRET]) is None
