"""
Tests that the benchmarks which need the lab print what the documents show of them.
"""

from __future__ import annotations

import pytest

from tests.benchmarks.tables import assertPrints


@pytest.mark.waiting
@pytest.mark.parametrize("arguments", ["connect 1", "guessing 1", "moving 1"])
def test_itsTableIsTheDocuments(arguments: str) -> None:
    assertPrints(arguments.split()[0], arguments=arguments)


def test_bulksTableIsTheDocuments() -> None:
    assertPrints("bulk", arguments="bulk 20 1")


def test_streamsTablesAreTheDocuments() -> None:
    assertPrints("streams", "streams-line", arguments="streams 1 1 100")
