"""
What somebody has who installed punchd, from a wheel or as an editable checkout.
"""

import pytest

from tests.packaging.conftest import Environment


@pytest.mark.parametrize("command", ["punchd-server", "punchd-peer"])
def test_twistdListsTheCommand(environment: Environment, command: str) -> None:
    listed = [line.split()[:1] for line in environment.run("twistd", "--help").splitlines()]
    assert [command] in listed


@pytest.mark.parametrize("command", ["punchd-server", "punchd-peer"])
def test_twistdExplainsTheCommand(environment: Environment, command: str) -> None:
    assert "--state" in environment.run("twistd", command, "--help")


def test_punchdExplainsItself(environment: Environment) -> None:
    assert "connect" in environment.run("punchd", "--help")


def test_everyModuleIsImportable(environment: Environment) -> None:
    """
    So everything that punchd needs is among what it says it needs; the parts of the test kit that
    are for pytest need the extra C{testing}, which is not installed here.
    """
    environment.run(
        "python",
        "-c",
        "import importlib, pkgutil, punchd\n"
        "for each in pkgutil.walk_packages(punchd.__path__, 'punchd.'):\n"
        "    if each.name.endswith('__main__'):\n"
        "        continue\n"
        "    try:\n"
        "        importlib.import_module(each.name)\n"
        "    except ModuleNotFoundError as error:\n"
        "        isKit = each.name.startswith('punchd.testing.')\n"
        "        assert isKit and error.name in ('pytest', 'hypothesis'), each.name\n",
    )
