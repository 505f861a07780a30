"""
What every test in the NAT lab needs.
"""

from __future__ import annotations

import os

import pytest

from punchd.testing.natlab import LabUnavailable, requirements


@pytest.fixture(scope="session", autouse=True)
def labAvailable() -> None:
    """
    A machine that cannot carry a lab fails the tests and says what to install:
    a lab that is skipped in silence proves nothing.
    """
    if os.environ.get("PUNCHD_NO_NATLAB") == "1":
        pytest.skip("PUNCHD_NO_NATLAB=1: the NAT lab was switched off")
    missing = requirements()
    if missing:
        pytest.fail(
            f"{LabUnavailable(missing)}; PUNCHD_NO_NATLAB=1 skips these tests", pytrace=False
        )
