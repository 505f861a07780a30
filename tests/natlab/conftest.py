"""
What every test in the NAT lab needs: with a failure comes what the processes have logged.

Where no lab can be built, C{tests/conftest.py} says what becomes of these tests.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

from punchd.testing.deployment import Deployment

_MARKS = pytest.StashKey[dict[str, int]]()


def _deployment(item: pytest.Item) -> Deployment | None:
    """
    The deployment that a test uses, if it uses one.
    """
    arguments = getattr(item, "funcargs", {})
    found = (
        each
        for value in arguments.values()
        for each in (value, getattr(value, "deployment", None))
        if isinstance(each, Deployment)
    )
    return next(found, None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    deployment = _deployment(item)
    if deployment is not None:
        item.stash[_MARKS] = deployment.marks()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    deployment = _deployment(item)
    if report.failed and deployment is not None and _MARKS in item.stash:
        logged = deployment.logged(item.stash[_MARKS])
        report.sections.append(("what the processes have logged", logged))
    return report
