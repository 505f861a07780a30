"""
The manual's example of an internet in memory.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/howto/test-strategies.rst"


def test_itPrintsWhatTheManualSays() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs/examples/internet/meet.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    shown = "".join(f"   {line}\n" for line in done.stdout.splitlines())
    assert f"It prints::\n\n{shown}\n" in PAGE.read_text("utf-8")
