"""
The strategy of the lesson "Your first strategy", and what the lesson says of it.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs/examples/punchd-strategy-example"

#: Without the checkout's own configuration, and without the test that needs the kernel lab.
HERE = ["-c", os.devnull, "--rootdir", ".", "--deselect", "tests/test_natlab.py"]

LESSON = ROOT / "docs/tutorial/first-strategy.rst"


def test_itsOwnTestsPass() -> None:
    """
    Those that need no kernel lab, from the checkout; tests/packaging has all, installed.
    """
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *HERE, "tests"],
        cwd=EXAMPLE,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": f"{EXAMPLE}:{ROOT}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "HYPOTHESIS_STORAGE_DIRECTORY": os.devnull,
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d+ passed", done.stdout, re.MULTILINE)


def test_theLessonShowsEveryFile() -> None:
    shown = set(re.findall(r"literalinclude:: \.\./examples/(\S+)", LESSON.read_text("utf-8")))
    files = {
        str(each.relative_to(EXAMPLE.parent))
        for each in EXAMPLE.rglob("*")
        if each.suffix in (".py", ".toml")
    }
    assert shown == files


def test_theLessonsNamesAreThoseOfTheFiles() -> None:
    text = LESSON.read_text("utf-8")
    for name in re.findall(r":caption: (\S+)", text):
        assert (EXAMPLE / name).is_file()
