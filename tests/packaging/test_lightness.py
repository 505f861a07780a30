"""
What importing the parts does not import.

Any Twisted program that asks for any plugin imports the dropins and the interfaces, and every
call of the command line pays for what its entry point imports.
"""

import json
import subprocess
import sys
from collections.abc import Set

import pytest

from tests.packaging.conftest import ROOT

DROPINS = sorted(each.stem for each in (ROOT / "twisted" / "plugins").glob("punchd_*.py"))


def imported(module: str) -> Set[str]:
    """
    The names of the modules that importing one of them loads in a fresh interpreter.
    """
    program = (
        "import sys; before = set(sys.modules)\n"
        "import json\n"
        f"import {module}\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()
    return set(json.loads(done.stdout))


def distributions(modules: Set[str]) -> Set[str]:
    """
    The top-level packages among them that are not Python's own.
    """
    return {each.partition(".")[0] for each in modules} - sys.stdlib_module_names


@pytest.mark.parametrize("dropin", DROPINS)
def test_dropinLeavesTheReactorOpen(dropin: str) -> None:
    """
    Whoever runs the program may still choose another reactor.
    """
    assert "twisted.internet.reactor" not in imported(f"twisted.plugins.{dropin}")


@pytest.mark.parametrize("dropin", DROPINS)
def test_dropinIsLight(dropin: str) -> None:
    modules = imported(f"twisted.plugins.{dropin}")
    assert not modules & {"cryptography", "OpenSSL", "service_identity", "sqlite3", "rich"}


@pytest.mark.parametrize("dropin", DROPINS)
def test_dropinImportsOfPunchdOnlyWhatIsPickled(dropin: str) -> None:
    ours = {each for each in imported(f"twisted.plugins.{dropin}") if each.startswith("punchd")}
    assert ours <= {"punchd", "punchd.interfaces", "punchd.plugin"}


def test_interfacesImportZopeInterfaceAlone() -> None:
    assert distributions(imported("punchd.interfaces")) <= {"punchd", "zope"}


def test_interfacesImportNothingElseOfPunchd() -> None:
    ours = {each for each in imported("punchd.interfaces") if each.startswith("punchd")}
    assert ours == {"punchd", "punchd.interfaces"}


def test_commandLineImportsNothingButPython() -> None:
    """
    The thin client hands over to the running peer; Twisted's import would take ten times as long
    as all of its work.
    """
    assert distributions(imported("punchd.cli.main")) == {"punchd"}
