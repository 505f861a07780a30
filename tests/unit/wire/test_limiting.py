"""
Tests for L{punchd.wire.limiting}.
"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from punchd.errors import Limited
from punchd.wire.limiting import LONGEST_WAIT, limitArguments, limitFrom


def test_whereThereIsNoLimitNothingIsSaid() -> None:
    assert set(limitArguments(None).values()) == {None}
    assert limitFrom(limitArguments(None)) is None


@given(st.text(), st.floats(0, 1e9))
def test_aLimitArrivesAndIsNotOverBeforeTheTimeThatIsTold(reason: str, seconds: float) -> None:
    limit = limitFrom(limitArguments(Limited(reason, seconds)))
    assert limit is not None
    assert str(limit) == reason
    assert min(seconds, LONGEST_WAIT) <= limit.seconds <= seconds + 1


@pytest.mark.parametrize(("wait", "seconds"), [(None, 0), (-5, 0), (7, 7), (10**30, LONGEST_WAIT)])
def test_anyTimeIsOneToReckonWith(wait: Any, seconds: float) -> None:
    limit = limitFrom({"relaylimit": "enough", "relaywait": wait})
    assert limit is not None
    assert limit.seconds == seconds
