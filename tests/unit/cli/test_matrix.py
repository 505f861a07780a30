"""
The matrix of C{punchd lab}: its figures, as JSON and as a table.
"""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from punchd.cli.matrix import FURTHER_COLOURS, NO_PATH, Cell, Matrix, render

TITLES = {"public": "public address", "shifted": "other port", "random": "symmetric, random"}


def makeMatrix(neighbours: bool = True) -> Matrix:
    """
    Three kinds, at a round trip of 50 ms.
    """
    return Matrix(
        titles=TITLES,
        cells=[
            Cell("public", "public", "simultaneous", 0.1, 0.15),
            Cell("public", "shifted", "simultaneous", 0.11, 0.16),
            Cell("public", "random", "knocking", 1.2, 1.3),
            Cell("shifted", "shifted", "simultaneous", 0.15, 0.2),
            Cell("shifted", "random", reason="no direct path: nobody answered"),
            Cell("random", "random", reason="no direct path: nobody answered"),
        ],
        roundTrip=0.05,
        neighbours=[Cell("lan", "lan", "lan", 0.055, 0.06)] if neighbours else [],
    )


def rendered(matrix: Matrix, width: int = 80) -> str:
    """
    What a terminal of that width shows.
    """
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as capture:
        console.print(render(matrix))
    return capture.get()


def test_timesAreMultiplesOfTheRoundTrip() -> None:
    matrix = makeMatrix()
    assert matrix.times(matrix.cells[0]) == pytest.approx(2.0)


def test_aPairWithoutAPathHasNoTime() -> None:
    matrix = makeMatrix()
    assert matrix.times(matrix.cells[-1]) is None


def test_longTimesHaveNoDecimals() -> None:
    matrix = makeMatrix()
    assert matrix.timesText(Cell("public", "public", "slow", 7.0)) == "140 R"


def test_aPairIsFoundInTheOrderItWasTried() -> None:
    matrix = makeMatrix()
    assert matrix.at("public", "shifted") is matrix.cells[1]
    assert matrix.at("shifted", "public") is None


def test_theSummaryCountsTheNeighboursToo() -> None:
    assert makeMatrix().summary() == "5 of 7 pairs direct; R = 50.0 ms"
    assert makeMatrix(neighbours=False).summary() == "4 of 6 pairs direct; R = 50.0 ms"


def test_noPathComesLastInTheLegend() -> None:
    labels = [label for label, _, _ in makeMatrix().labels()]
    assert labels == ["simultaneous", "lan", "knocking", NO_PATH]


def test_theLegendTellsHowOftenAndHowQuickly() -> None:
    told = {label: text for label, _, text in makeMatrix().labels()}
    assert told["simultaneous"] == "3 pairs, median 2.2 R"
    assert told["lan"] == "1 pair, median 1.1 R"
    assert told[NO_PATH] == "2 pairs"


def test_otherPeoplesStrategiesHaveColours() -> None:
    assert makeMatrix().colours()["knocking"] == FURTHER_COLOURS[0]


def test_jsonHasEveryPair() -> None:
    facts = makeMatrix().toJSON()
    assert [(each["caller"], each["callee"], each["path"]) for each in facts["pairs"]] == [
        ("public", "public", "direct"),
        ("public", "shifted", "direct"),
        ("public", "random", "direct"),
        ("shifted", "shifted", "direct"),
        ("shifted", "random", None),
        ("random", "random", None),
    ]


def test_jsonHasSecondsAndRoundTrips() -> None:
    pair = makeMatrix().toJSON()["pairs"][1]
    assert (pair["seconds"], pair["elected"], pair["roundTrips"]) == (0.11, 0.16, 2.2)


def test_jsonHasTheNeighbours() -> None:
    [cell] = makeMatrix().toJSON()["neighbours"]
    assert cell["strategy"] == "lan"
    assert makeMatrix(neighbours=False).toJSON()["neighbours"] == []


def test_theTable() -> None:
    lines = [line.rstrip() for line in rendered(makeMatrix()).splitlines()]
    assert lines[0].split() == ["caller", "\\", "callee", "A", "B", "C"]
    assert lines[2].split() == ["A", "public", "simu", "simu", "knoc"]
    assert lines[3].split() == ["2.0", "2.2", "24.0"]
    assert lines[4].split() == ["B", "shifted", "simu", "-"]


def test_theTableExplainsItsMarks() -> None:
    text = rendered(makeMatrix())
    assert "simu  simultaneous: 3 pairs, median 2.2 R\n" in text
    assert "-     no path: 2 pairs\n" in text
    assert "Two peers on one LAN: lan 1.1 R\n" in text


def test_aTableOfTwelveKindsFitsATerminal() -> None:
    names = [f"kind-{number}-of-twelve"[:15] for number in range(12)]
    cells = [
        Cell(caller, callee, "simultaneous", 99.0)
        for number, caller in enumerate(names)
        for callee in names[number:]
    ]
    matrix = Matrix({name: name for name in names}, cells, 1.0)
    assert rendered(matrix, 80) == rendered(matrix, 200)
