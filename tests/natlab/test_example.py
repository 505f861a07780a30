"""
The manual's example of a program for the lab.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_theExampleShowsAnAddressAfterTheNat() -> None:
    shown = subprocess.run(
        [sys.executable, ROOT / "docs/examples/natlab/meet.py"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={"PATH": "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(ROOT)},
    ).stdout
    # The kind "shifted" gives another port, always the same.
    assert shown.endswith(":40000 is seen as 198.18.2.2:34331\n")
