"""
Whether a benchmark still works: it prints the table that the documents show, whatever its figures.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_FIGURE = re.compile(r"[-+]?\d+(?:[,.]\d+)*|(?<= )-(?=[ ,]|$)")


def assertPrints(*documents: str, arguments: str) -> None:
    """
    Run a benchmark that measures less than for the documents.

    @param documents: names in C{docs/reference} without suffix; its lines are in these, but for
        the figures.
    @param arguments: the program's name and how much it is to measure.
    @raise AssertionError: it has failed, or prints something else. Where it leaves out programs
        that are not installed, only punchd's lines must be there.
    """
    name, *amount = arguments.split()
    done = subprocess.run(
        [sys.executable, "-m", f"tests.benchmarks.{name}", *amount],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    shown = [
        (_ROOT / "docs" / "reference" / f"{document}.txt").read_text() for document in documents
    ]
    printed, expected = _lines(done.stdout), _lines("".join(shown))
    assert printed <= expected, f"not in the documents: {sorted(printed - expected)}"
    missing = expected - printed
    if "left out" in done.stderr:
        missing = {line for line in missing if "punchd" in line}
    assert not missing, f"only in the documents: {sorted(missing)}"


def _lines(text: str) -> set[str]:
    """
    What is on each line besides figures.
    """
    return {" ".join(_FIGURE.sub("#", line).split()) for line in text.splitlines()}
