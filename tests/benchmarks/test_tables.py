"""
Tests that the benchmarks which need no lab print what the documents show of them.
"""

from __future__ import annotations

import pytest

from tests.benchmarks.tables import assertPrints

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "arguments",
    ["dns 3000", "frames 20 1000", "idle 20", "memory 1 3", "opens 200", "relay 2000 1 20"],
)
def test_itsTableIsTheDocuments(arguments: str) -> None:
    assertPrints(arguments.split()[0], arguments=arguments)
