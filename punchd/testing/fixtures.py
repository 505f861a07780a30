"""
Pytest fixtures for the kernel lab. A test package asks for them by::

    pytest_plugins = ["punchd.testing.fixtures"]

Where no lab can be built, its tests are skipped, and the end of the run says which and what is
missing. On a build server, where C{CI=true}, they fail instead.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from punchd.testing.natlab import NatLab, requirements

#: Seconds one way between two sites of the fixture's lab.
DELAY = 0.01

_LACKING = pytest.StashKey[str]()


@pytest.fixture
def natlab(request: pytest.FixtureRequest) -> Iterator[NatLab]:
    """
    A L{NatLab<punchd.testing.natlab.lab.NatLab>} for one test, removed after it.
    """
    lacking = "; ".join(map(str, requirements()))
    if lacking and os.environ.get("CI") == "true":
        pytest.fail(f"CI=true, and the NAT lab lacks: {lacking}", pytrace=False)
    if lacking:
        request.config.stash[_LACKING] = lacking
        pytest.skip(f"no NAT lab: {lacking}")
    with NatLab(delay=DELAY) as lab:
        yield lab


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """
    What was skipped is not passed over in silence.
    """
    lacking = config.stash.get(_LACKING, "")
    if lacking:
        terminalreporter.write_sep("!", "THE NAT LAB DID NOT RUN", red=True, bold=True)
        terminalreporter.write_line(f"It lacks: {lacking}")
