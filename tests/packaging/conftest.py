"""
The distribution, built once, and fresh environments that it is installed into.

It is built from a copy of the sources: neither the leavings of an earlier build can get into it,
nor does it leave any in the checkout.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).parents[2]

#: What a build reads; so nothing else can be needed.
SOURCES = ["setup.cfg", "pyproject.toml", "README.rst", "LICENSE", "punchd", "twisted"]


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [str(each) for each in command],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


@attrs.frozen
class Environment:
    """
    A virtual environment with punchd in it, and with nothing of the one that runs the tests.
    """

    folder: Path

    @classmethod
    def make(cls, folder: Path, *toInstall: str | Path) -> "Environment":
        folder.mkdir()
        environment = cls(folder)
        run(sys.executable, "-m", "venv", "--without-pip", "environment", cwd=folder)
        # fmt: off
        run(
            sys.executable, "-m", "pip", "--python", environment.bin / "python",
            "install", "--quiet", "--no-compile", *toInstall, cwd=folder,
        )
        # fmt: on
        return environment

    @property
    def bin(self) -> Path:
        return self.folder / "environment" / "bin"

    def run(self, program: str, *arguments: str) -> str:
        """
        Run one of the environment's programs, away from the checkout, and return what it says.
        """
        return run(self.bin / program, *arguments, cwd=self.folder)


@pytest.fixture(scope="session")
def copySources(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    def copy() -> Path:
        folder = tmp_path_factory.mktemp("sources")
        for name in SOURCES:
            if (ROOT / name).is_dir():
                leavings = shutil.ignore_patterns("__pycache__", "dropin.cache")
                shutil.copytree(ROOT / name, folder / name, ignore=leavings)
            else:
                shutil.copy(ROOT / name, folder / name)
        return folder

    return copy


@pytest.fixture(scope="session")
def wheel(copySources: Callable[[], Path]) -> Path:
    sources = copySources()
    # fmt: off
    run(
        sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", "dist", ".",
        cwd=sources,
    )
    # fmt: on
    [built] = (sources / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="session")
def wheelEnvironment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment.make(tmp_path_factory.mktemp("wheel") / "installed", wheel)


@pytest.fixture(scope="session")
def editableEnvironment(
    copySources: Callable[[], Path], tmp_path_factory: pytest.TempPathFactory
) -> Environment:
    folder = tmp_path_factory.mktemp("editable") / "installed"
    return Environment.make(folder, "--editable", copySources())


@pytest.fixture(params=["wheel", "editable"])
def environment(request: pytest.FixtureRequest) -> Environment:
    """
    One environment for each way of installing.
    """
    made: Environment = request.getfixturevalue(f"{request.param}Environment")
    return made
