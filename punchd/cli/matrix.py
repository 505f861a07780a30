"""
What the NAT lab found: kind of NAT against kind of NAT, as JSON and as a table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any, Final

from attrs import field, frozen
from rich.box import SIMPLE
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

#: Light enough for black text, and apart in lightness or in blue and yellow, which most people can
#: tell from each other who cannot tell red from green. A strategy of ours always has the same one.
COLOURS: Final = {
    "direct": "#b3e2cd",
    "simultaneous": "#5ec49d",
    "lan": "#7db4e6",
    "sequential": "#a8d8f0",
    "ipv6": "#c9b8e8",
    "mapped": "#dda0c4",
    "predicted": "#f2e77c",
    "birthday": "#f2bd5c",
}
FURTHER_COLOURS: Final = ("#d8c3a5", "#c5d86d", "#e8998d", "#9fb8ad")
NO_PATH_COLOUR: Final = "#d9d9d9"

NO_PATH: Final = "no path"

#: What stands for two neighbours among the kinds of NAT.
LANS: Final = {
    "lan": "Two peers on one LAN",
    "hairpin": "Two peers on one LAN, whose router turns back what is for itself",
}

# Letters that stand for a strategy where there is little room.
_MARK: Final = 4


@frozen
class Cell:
    """
    What came of one pair.

    @ivar caller: the name of the caller's kind; C{callee}: of the callee's.
    @ivar strategy: by which they are connected; C{None} if they are not.
    @ivar seconds: from the caller's request to the TCP connection.
    @ivar elected: from the caller's request to the stream that can be written to.
    @ivar reason: why there is no path.
    """

    caller: str
    callee: str
    strategy: str | None = None
    seconds: float | None = None
    elected: float | None = None
    reason: str | None = None

    @property
    def label(self) -> str:
        """
        The strategy, or that there is none.
        """
        return self.strategy or NO_PATH


@frozen
class Matrix:
    """
    All of them.

    @ivar titles: the kinds' titles by their names, in the order of rows and columns.
    @ivar cells: for pairs of kinds, the caller's never after the callee's in that order.
    @ivar roundTrip: seconds that TCP takes to connect two public hosts.
    @ivar neighbours: two peers on one LAN, of each sort of LAN that was tried, whose name stands in
        place of a kind's.
    """

    titles: dict[str, str]
    cells: Sequence[Cell]
    roundTrip: float
    neighbours: Sequence[Cell] = ()
    _byPair: dict[tuple[str, str], Cell] = field(init=False, repr=False)

    @_byPair.default
    def _index(self) -> dict[tuple[str, str], Cell]:
        return {(cell.caller, cell.callee): cell for cell in self.cells}

    def at(self, caller: str, callee: str) -> Cell | None:
        """
        What came of a pair, if it was tried in this order.
        """
        return self._byPair.get((caller, callee))

    @property
    def everything(self) -> list[Cell]:
        """
        The cells, and the neighbours'.
        """
        return [*self.cells, *self.neighbours]

    def times(self, cell: Cell) -> float | None:
        """
        How many round trips it took to connect.
        """
        return None if cell.seconds is None else cell.seconds / self.roundTrip

    def timesText(self, cell: Cell) -> str:
        """
        The same in as many digits as mean something.
        """
        times = self.times(cell)
        if times is None:
            return ""
        return f"{times:.1f} R" if times < 100 else f"{times:.0f} R"

    def inWords(self, cell: Cell) -> str:
        """
        The strategy and the time it took, or that there is no path.
        """
        return f"{cell.label} {self.timesText(cell)}".rstrip()

    def neighboursText(self, cell: Cell) -> str:
        """
        What came of two peers on one LAN.
        """
        return f"{LANS[cell.caller]}: {self.inWords(cell)}"

    def labels(self) -> Iterator[tuple[str, str, str]]:
        """
        For each strategy that has connected a pair: its name, its colour, and how often and how
        quickly it did; last, if there are such, those without a path.
        """
        cells = self.everything
        for label, colour in self.colours().items():
            ones = [cell for cell in cells if cell.label == label]
            times = [times for cell in ones if (times := self.times(cell)) is not None]
            told = f"{len(ones)} {'pair' if len(ones) == 1 else 'pairs'}"
            if times:
                told += f", median {median(times):.1f} R"
            yield label, colour, told

    def colours(self) -> dict[str, str]:
        """
        The colour of everything that is a label here, best strategies first.
        """
        labels = {cell.label for cell in self.everything}
        known = {name: colour for name, colour in COLOURS.items() if name in labels}
        others = sorted(labels - known.keys() - {NO_PATH})
        for number, name in enumerate(others):
            known[name] = FURTHER_COLOURS[number % len(FURTHER_COLOURS)]
        if NO_PATH in labels:
            known[NO_PATH] = NO_PATH_COLOUR
        return known

    def summary(self) -> str:
        """
        All of it in one line.
        """
        cells = self.everything
        direct = [cell for cell in cells if cell.strategy is not None]
        return f"{len(direct)} of {len(cells)} pairs direct; R = {self.roundTrip * 1000:.1f} ms"

    def toJSON(self) -> dict[str, Any]:
        """
        As C{punchd lab --json} shows it.
        """
        return {
            "roundTrip": round(self.roundTrip, 6),
            "kinds": [{"name": name, "title": title} for name, title in self.titles.items()],
            "pairs": [self._cellToJSON(cell) for cell in self.cells],
            "neighbours": [self._cellToJSON(cell) for cell in self.neighbours],
        }

    def _cellToJSON(self, cell: Cell) -> dict[str, Any]:
        times = self.times(cell)
        return {
            "caller": cell.caller,
            "callee": cell.callee,
            "path": None if cell.strategy is None else "direct",
            "strategy": cell.strategy,
            "reason": cell.reason,
            "seconds": cell.seconds,
            "elected": cell.elected,
            "roundTrips": None if times is None else round(times, 2),
        }


def render(matrix: Matrix) -> RenderableType:
    """
    The matrix as a table that fits a terminal of 80 columns with all kinds there are: columns are
    marked by letters, and strategies by their beginnings.
    """
    letters = {name: chr(ord("A") + number) for number, name in enumerate(matrix.titles)}
    table = Table(box=SIMPLE, padding=0, show_edge=False)
    table.add_column("caller \\ callee", no_wrap=True)
    for letter in letters.values():
        table.add_column(letter, justify="center", no_wrap=True, min_width=_MARK)
    colours = matrix.colours()
    for caller in matrix.titles:
        row: list[RenderableType] = [f"{letters[caller]} {caller}"]
        for callee in matrix.titles:
            cell = matrix.at(caller, callee)
            row.append("" if cell is None else _cellText(matrix, cell, colours))
        table.add_row(*row)
    lines = [
        Text.assemble((f"{_mark(label):{_MARK}}  ", colour), f"{label}: {told}")
        for label, colour, told in matrix.labels()
    ]
    lines += [Text(matrix.neighboursText(cell)) for cell in matrix.neighbours]
    return Group(table, Text(), *lines, Text(matrix.summary()))


def _mark(label: str) -> str:
    return "-" if label == NO_PATH else label[:_MARK]


def _cellText(matrix: Matrix, cell: Cell, colours: dict[str, str]) -> Text:
    times = matrix.timesText(cell).removesuffix(" R")
    return Text(f"{_mark(cell.label)}\n{times}".rstrip(), colours[cell.label])
