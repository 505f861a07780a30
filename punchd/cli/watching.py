"""
C{punchd status --watch}: the status again and again, until it is interrupted.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from punchd.cli.control import Failed
from punchd.cli.showing import statusLines, withoutOk

#: Seconds from one look to the next.
EVERY = 1.0

#: Gets the lines to show.
_Show = Callable[[list[str]], None]


def watchStatus(
    look: Callable[[], dict[str, Any]],
    asJSON: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """
    Show what C{look} finds: redrawn on a terminal, elsewhere when it has changed; or as JSON, one
    object in each line. A peer that goes away is waited for, unless it was never there.

    @return: the exit status, once interrupted.
    @raise Failed: when there is no peer at the beginning.
    """
    answer: dict[str, Any] | None = look()
    problem = ""
    try:
        with (
            _jsonLines() if asJSON else _onTerminal() if sys.stdout.isatty() else _asText() as show
        ):
            while True:
                show(_linesOf(answer, problem, asJSON))
                sleep(EVERY)
                try:
                    answer = look()
                except Failed as failure:
                    answer, problem = None, str(failure)
    except KeyboardInterrupt:
        return 0


def _linesOf(answer: dict[str, Any] | None, problem: str, asJSON: bool) -> list[str]:
    if asJSON:
        return [json.dumps({"error": problem} if answer is None else withoutOk(answer))]
    if answer is None:
        return [f"punchd: {problem}", "waiting for it"]
    return statusLines(answer)


@contextmanager
def _jsonLines() -> Iterator[_Show]:
    yield _write


def _write(lines: list[str]) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    # Whoever reads a pipe wants it now.
    sys.stdout.flush()


@contextmanager
def _asText() -> Iterator[_Show]:
    shown: list[str] = []

    def show(lines: list[str]) -> None:
        if lines != shown:
            _write(["", *lines] if shown else lines)
            shown[:] = lines

    yield show


@contextmanager
def _onTerminal() -> Iterator[_Show]:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(highlight=False), auto_refresh=False) as live:
        yield lambda lines: live.update(Text("\n".join(lines)), refresh=True)
