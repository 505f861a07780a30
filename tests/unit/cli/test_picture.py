"""
The matrix of C{punchd lab} as a picture.
"""

from __future__ import annotations

from xml.etree import ElementTree

from punchd.cli.matrix import NO_PATH_COLOUR, Cell, Matrix
from punchd.cli.picture import picture

SVG = "{http://www.w3.org/2000/svg}"

MATRIX = Matrix(
    titles={"public": "public & open", "random": "symmetric <random>"},
    cells=[
        Cell("public", "public", "simultaneous", 0.1),
        Cell("public", "random", "simultaneous", 0.13),
        Cell("random", "random", reason='nobody "answered" & <all> was lost'),
    ],
    roundTrip=0.05,
    neighbours=[Cell("lan", "lan", "lan", 0.055)],
)


def drawn() -> ElementTree.Element:
    """
    The picture, which must be well-formed.
    """
    return ElementTree.fromstring(picture(MATRIX))


def texts(root: ElementTree.Element) -> list[str]:
    """
    Everything that is written in it.
    """
    return [each.text or "" for each in root.iter(f"{SVG}text")]


def test_aCellForEachPair() -> None:
    told = [group.findtext(f"{SVG}title") for group in drawn().iter(f"{SVG}g")]
    assert told == [
        "public & open calls public & open: simultaneous, 100 ms",
        "public & open calls symmetric <random>: simultaneous, 130 ms",
        'symmetric <random> calls symmetric <random>: nobody "answered" & <all> was lost',
    ]


def test_cellsShowTimes() -> None:
    assert {"2.0 R", "2.6 R", "no path"} <= set(texts(drawn()))


def test_pairsWithoutAPathLookDifferent() -> None:
    colours = [
        rectangle.get("fill")
        for group in drawn().iter(f"{SVG}g")
        if (rectangle := group.find(f"{SVG}rect")) is not None
    ]
    assert colours[0] == colours[1] != colours[2] == NO_PATH_COLOUR


def test_titlesStandAtRowsAndColumns() -> None:
    assert texts(drawn()).count("symmetric <random>") == 2


def test_theLegendNamesTheStrategies() -> None:
    assert "simultaneous: 2 pairs, median 2.3 R" in texts(drawn())


def test_theNeighboursAreTold() -> None:
    assert "Two peers on one LAN: lan 1.1 R" in texts(drawn())


def test_nothingIsOutside() -> None:
    root = drawn()
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    for rectangle in root.iter(f"{SVG}rect"):
        assert float(rectangle.get("x", 0)) + float(rectangle.get("width", 0)) <= width
        assert float(rectangle.get("y", 0)) + float(rectangle.get("height", 0)) <= height
