"""
The manual's examples of programs for the lab.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def shownBy(name: str, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, ROOT / "docs/examples/natlab" / name, *arguments],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ).stdout


def test_meetShowsAnAddressAfterTheNat() -> None:
    # The kind "shifted" gives another port, always the same.
    assert shownBy("meet.py").endswith(":40000 is seen as 198.18.2.2:34331\n")


@pytest.mark.parametrize("strategy", ["simultaneous", "sequential"])
def test_punchShowsThePath(strategy: str) -> None:
    assert shownBy("punch.py", strategy) == f"path: direct, by: {strategy}, reason: None\n"
