"""
What is in the wheel, and what is not.
"""

from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.packaging.conftest import ROOT


@pytest.fixture(scope="module")
def names(wheel: Path) -> list[str]:
    with ZipFile(wheel) as archive:
        return archive.namelist()


def test_everyModuleIsThere(names: list[str]) -> None:
    modules = {str(each.relative_to(ROOT)) for each in (ROOT / "punchd").rglob("*.py")}
    assert modules <= set(names)


@pytest.mark.parametrize("dropin", ["services", "strategies", "registries"])
def test_dropinsAreThere(names: list[str], dropin: str) -> None:
    assert f"twisted/plugins/punchd_{dropin}.py" in names


def test_typesAreMarked(names: list[str]) -> None:
    assert "punchd/py.typed" in names


def test_unitsAreThere(names: list[str]) -> None:
    units = {str(each.relative_to(ROOT)) for each in (ROOT / "punchd/units").iterdir()}
    assert len(units) > 3
    assert units <= set(names)


def test_nothingElseIsThere(names: list[str]) -> None:
    strangers = [
        each
        for each in names
        if not each.startswith(("punchd/", "twisted/plugins/punchd_", "punchd-"))
    ]
    assert strangers == []


def test_namespacesStayOpen(names: list[str]) -> None:
    """
    An C{__init__.py} of ours would replace Twisted's, or hide other distributions' plugins.
    """
    assert not {"twisted/__init__.py", "twisted/plugins/__init__.py"} & set(names)
