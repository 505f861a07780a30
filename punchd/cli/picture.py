"""
What the NAT lab found, as a picture (SVG 1.1) that needs no program to be looked at but a browser.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from punchd.cli.matrix import Cell, Matrix

# Pixels.
_WIDTH: Final = 84
_HEIGHT: Final = 44
_GAP: Final = 2
_ROW_TITLES: Final = 210
_COLUMN_TITLES: Final = 165
_HEAD: Final = 64
_MARGIN: Final = 20
_LEGEND_LINE: Final = 24
#: The longest line of the legend.
_LEAST_WIDTH: Final = 460

_STYLE: Final = (
    "text{font-family:system-ui,'DejaVu Sans',Helvetica,Arial,sans-serif;fill:#1b1b1b}"
    ".title{font-size:20px;font-weight:600}"
    ".told{font-size:13px}"
    ".time{font-size:14px;font-weight:600;text-anchor:middle}"
    ".strategy{font-size:10.5px;text-anchor:middle}"
)


def picture(matrix: Matrix) -> str:
    """
    The matrix, a cell for each pair; pointing at one shows all that is known of it.
    """
    count = len(matrix.titles)
    legend = len(matrix.colours()) + len(matrix.neighbours)
    left, top = _MARGIN + _ROW_TITLES, _HEAD + _COLUMN_TITLES
    # The last column's title leans out to the right.
    width = max(left + count * _WIDTH + _COLUMN_TITLES // 2, _LEAST_WIDTH)
    height = top + count * _HEIGHT + 2 * _MARGIN + legend * _LEGEND_LINE
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img">',
        "<title>NAT × NAT: who gets a direct TCP connection</title>",
        f"<style>{_STYLE}</style>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        _text(_MARGIN, 34, "title", "NAT × NAT: who gets a direct TCP connection"),
        _text(_MARGIN, 56, "told", f"{matrix.summary()}, the round trip between any two sites"),
        _text(left - 10, top - 10, "told", "caller ↓  callee →", ' text-anchor="end"'),
        *_titles(matrix, left, top),
        *_cells(matrix, left, top),
        *_legend(matrix, top + count * _HEIGHT + 2 * _MARGIN),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _text(x: float, y: float, kind: str, text: str, more: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{kind}"{more}>{escape(text)}</text>'


def _titles(matrix: Matrix, left: int, top: int) -> Iterator[str]:
    for number, title in enumerate(matrix.titles.values()):
        y = top + number * _HEIGHT + _HEIGHT / 2 + 5
        yield _text(left - 10, y, "told", title, ' text-anchor="end"')
        x = left + number * _WIDTH + _WIDTH / 2
        turned = f' transform="rotate(-52 {x:g} {top - 10})"'
        yield _text(x, top - 10, "told", title, turned)


def _cells(matrix: Matrix, left: int, top: int) -> Iterator[str]:
    colours = matrix.colours()
    for row, caller in enumerate(matrix.titles):
        for column, callee in enumerate(matrix.titles):
            cell = matrix.at(caller, callee)
            if cell is not None:
                x, y = left + column * _WIDTH, top + row * _HEIGHT
                yield _cell(matrix, cell, x, y, colours[cell.label])


def _cell(matrix: Matrix, cell: Cell, x: int, y: int, colour: str) -> str:
    middle = x + (_WIDTH - _GAP) / 2
    told = f"{matrix.titles[cell.caller]} calls {matrix.titles[cell.callee]}: "
    if cell.strategy is None:
        told += cell.reason or cell.label
        texts = _text(middle, y + _HEIGHT / 2 + 3, "strategy", cell.label)
    else:
        told += f"{cell.strategy}, {(cell.seconds or 0) * 1000:.0f} ms"
        texts = _text(middle, y + 19, "time", matrix.timesText(cell))
        texts += _text(middle, y + 34, "strategy", cell.strategy)
    return (
        f"<g><title>{escape(told)}</title>"
        f'<rect x="{x}" y="{y}" width="{_WIDTH - _GAP}" height="{_HEIGHT - _GAP}" rx="4" '
        f"fill={quoteattr(colour)}/>{texts}</g>"
    )


def _legend(matrix: Matrix, top: int) -> Iterator[str]:
    y = top
    for label, colour, told in matrix.labels():
        yield (
            f'<rect x="{_MARGIN}" y="{y - 13}" width="26" height="16" rx="3" '
            f"fill={quoteattr(colour)}/>"
        )
        yield _text(_MARGIN + 36, y, "told", f"{label}: {told}")
        y += _LEGEND_LINE
    for cell in matrix.neighbours:
        yield _text(_MARGIN + 36, y, "told", matrix.neighboursText(cell))
        y += _LEGEND_LINE
