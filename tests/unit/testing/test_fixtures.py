"""
The fixture for the kernel lab, where no lab can be built: nothing is skipped in silence.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

TEST = """
pytest_plugins = ["punchd.testing.fixtures"]

def test_inLab(natlab):
    raise AssertionError("there is no lab")
"""


def runWithoutTools(folder: Path, **environment: str) -> tuple[int, str]:
    """
    Run a test that needs the lab, where none of its programs is to be found.
    """
    (folder / "conftest.py").write_text(TEST.splitlines()[1])
    (folder / "test_lab.py").write_text(TEST.partition("\n\n")[2])
    inherited = {name: value for name, value in os.environ.items() if name != "CI"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "."],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**inherited, "PATH": str(folder), "PYTHONPATH": str(ROOT), **environment},
    )
    return done.returncode, done.stdout


def test_elsewhereItSaysWhatIsMissing(tmp_path: Path) -> None:
    status, shown = runWithoutTools(tmp_path)
    assert status == 0
    assert "1 skipped" in shown
    assert "THE NAT LAB DID NOT RUN" in shown
    assert "apt-get install nftables" in shown


@pytest.mark.parametrize("missing", ["the program ip", "the program nft"])
def test_onABuildServerItFails(tmp_path: Path, missing: str) -> None:
    status, shown = runWithoutTools(tmp_path, CI="true")
    assert status == 1
    assert "CI=true, and the NAT lab lacks" in shown
    assert missing in shown
