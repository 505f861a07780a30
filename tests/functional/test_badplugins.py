"""
Plugins of other people's that cannot even be imported, beside punchd's own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

PUNCHD = "from punchd.cli.main import main; import sys; sys.exit(main(sys.argv[1:]))"

LOADED = """
from punchd.plugin import loadStrategies, strategyMakers
print(*loadStrategies(strategyMakers()))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """
    One whose dropin raises, and one whose code does.
    """
    plugins = tmp_path / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "bad_dropin.py").write_text("raise ZeroDivisionError('in the dropin')\n")
    (plugins / "bad_code.py").write_text(
        "from punchd.plugin import StrategyMaker\n"
        "broken = StrategyMaker('broken', 'bad_strategy.Broken')\n"
    )
    (tmp_path / "bad_strategy.py").write_text("raise ZeroDivisionError('in the code')\n")
    return tmp_path


def run(folder: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{folder}:{ROOT}"},
    )


def test_whatCannotBeImportedIsReportedByName(folder: Path) -> None:
    done = run(folder, PUNCHD, "strategies", "--json")
    listed: list[Any] = json.loads(done.stdout)
    problems = {each["name"]: each["problem"] for each in listed if each["problem"]}
    assert problems == {"broken": "ZeroDivisionError: in the code"}
    # Twisted tells of the other, which has not even a name yet, by its file.
    assert "bad_dropin.py" in done.stderr


def test_theOthersAreThereAllTheSame(folder: Path) -> None:
    done = run(folder, LOADED)
    assert done.returncode == 0
    assert {"lan", "simultaneous", "sequential"} <= set(done.stdout.split())
