"""
Tests for L{punchd.wire.versions}.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from punchd.errors import IncompatibleVersions
from punchd.wire.versions import (
    MASTER_VERSION,
    OLDEST_MASTER_VERSION,
    checkVersion,
    commonMasterVersion,
)


def test_anEndThatSpeaksMoreSpeaksOurs() -> None:
    assert commonMasterVersion(MASTER_VERSION + 5, OLDEST_MASTER_VERSION) == MASTER_VERSION


def test_anEndThatDroppedOursIsRefusedNamingBoth() -> None:
    with pytest.raises(IncompatibleVersions, match=r"1 to 1 .* 7 to 9"):
        commonMasterVersion(9, 7)


def test_anEndThatNeverLearnedOursIsRefused() -> None:
    with pytest.raises(IncompatibleVersions):
        commonMasterVersion(OLDEST_MASTER_VERSION - 1, OLDEST_MASTER_VERSION - 1)


@given(st.integers(), st.integers())
def test_aCommonVersionIsOneThatBothSpeak(version: int, oldest: int) -> None:
    try:
        common = commonMasterVersion(version, oldest)
    except IncompatibleVersions:
        return
    assert oldest <= common <= version
    assert OLDEST_MASTER_VERSION <= common <= MASTER_VERSION


@given(st.integers(0, 255), st.integers(0, 255))
def test_onlyEqualVersionsPass(theirs: int, ours: int) -> None:
    if theirs == ours:
        checkVersion("preamble", theirs, ours)
        return
    with pytest.raises(IncompatibleVersions, match=rf"version {theirs} of .* version {ours}:"):
        checkVersion("preamble", theirs, ours)
