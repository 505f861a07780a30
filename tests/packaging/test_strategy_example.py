"""
The example of a strategy in a package of its own: built, installed beside punchd, found, tested by
its own tests, and taken out again.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from punchd.testing.natlab import requirements
from tests.packaging.conftest import ROOT, Environment, run

EXAMPLE = ROOT / "docs/examples/punchd-strategy-example"

#: Words that occur in the example and nowhere else in an environment.
TRACES = (b"punchd_strategy_example", b"punchd-strategy-example", b"doorstep")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    leavings = shutil.ignore_patterns("__pycache__", "dropin.cache", "*.egg-info", "build")
    copied = tmp_path_factory.mktemp("example") / "sources"
    return Path(shutil.copytree(EXAMPLE, copied, ignore=leavings))


@pytest.fixture(scope="module")
def exampleWheel(sources: Path) -> Path:
    # fmt: off
    run(
        sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", "dist", ".",
        cwd=sources,
    )
    # fmt: on
    [built] = (sources / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def beside(
    wheel: Path, exampleWheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Environment:
    """
    An environment with both.
    """
    folder = tmp_path_factory.mktemp("beside") / "installed"
    return Environment.make(folder, f"punchd[testing] @ {wheel.as_uri()}", exampleWheel)


def strategies(environment: Environment) -> dict[str, Any]:
    listed: list[Any] = json.loads(environment.run("punchd", "strategies", "--json"))
    return {each["name"]: each for each in listed}


def test_itsWheelHasAllOfItAndNothingElse(exampleWheel: Path, tmp_path: Path) -> None:
    shutil.unpack_archive(exampleWheel, tmp_path, "zip")
    files = {str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*.py")}
    assert files == {
        "punchd_strategy_example/__init__.py",
        "twisted/plugins/punchd_strategy_example.py",
    }


def test_punchdFindsItAndNamesItsPackage(beside: Environment) -> None:
    found = strategies(beside)["doorstep"]
    assert (found["version"], found["problem"]) == (1, None)
    assert found["package"] == "punchd_strategy_example"
    assert "simultaneous" in strategies(beside)


def test_itsOwnTestsPassThere(beside: Environment, sources: Path) -> None:
    """
    The contract, the in-memory internet, and, where there can be one, the kernel lab, in which it
    wins the race between real peers.
    """
    done = subprocess.run(
        [beside.bin / "python", "-m", "pytest", "-p", "no:cacheprovider", "-rA", "-q"],
        cwd=sources,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PATH": f"{beside.bin}:{os.environ['PATH']}"},
    )
    assert done.returncode == 0, done.stdout
    assert "PASSED tests/test_contract.py::TestDoorstep::test_itLeavesNothing" in done.stdout
    if requirements():
        assert "THE NAT LAB DID NOT RUN" in done.stdout
    else:
        assert "PASSED tests/test_natlab.py::test_itWinsTheRace" in done.stdout
        assert re.search(r"^\d+ passed in ", done.stdout, re.MULTILINE)


def test_pipTakesItOutWithoutATrace(beside: Environment) -> None:
    assert "doorstep" in strategies(beside)
    site = Path(beside.run("python", "-c", "import punchd; print(punchd.__file__)").strip())
    site = site.parents[1]
    assert any(traces(site)), "there is nothing to be taken out"
    # fmt: off
    run(
        sys.executable, "-m", "pip", "--python", beside.bin / "python",
        "uninstall", "--quiet", "--yes", "punchd-strategy-example", cwd=beside.folder,
    )
    # fmt: on
    # Whoever asks for plugins next writes Twisted's cache of them anew.
    assert "doorstep" not in strategies(beside)
    assert (site / "twisted/plugins/dropin.cache").exists()
    assert traces(site) == []


def traces(folder: Path) -> list[Path]:
    """
    The files in which the example is named, by their names or inside.
    """
    return [
        each
        for each in sorted(folder.rglob("*"))
        if any(
            trace in str(each.relative_to(folder)).encode()
            or (each.is_file() and trace in each.read_bytes())
            for trace in TRACES
        )
    ]
