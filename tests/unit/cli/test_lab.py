"""
The command C{punchd lab} where it builds no lab.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import attrs
import pytest

from punchd.cli import lab as command
from punchd.cli.main import main
from punchd.cli.matrix import Cell
from punchd.testing.natlab import LabUnavailable, Missing


def test_anUnknownKindIsWrongUsage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "--kinds", "public,strange"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("punchd: there is no kind of NAT 'strange'; there are public, ")
    assert error.count("\n") == 1


def test_aNegativeDelayIsWrongUsage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "--delay", "-1"]) == 2
    assert capsys.readouterr().err == "punchd: --delay is 0 to 1000 ms, not -1\n"


def test_aPictureThatCannotBeWrittenIsToldAtOnce(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "missing" / "matrix.svg"
    assert main(["lab", "--svg", str(path)]) == 1
    assert capsys.readouterr().err.startswith(f"punchd: cannot write {path}: ")


def test_aMachineWithoutALabSaysWhatIsMissing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(delay: float) -> None:
        raise LabUnavailable([Missing("root", "use sudo")])

    monkeypatch.setattr(command, "NatLab", unavailable)
    assert main(["lab"]) == 1
    expected = "punchd: the NAT lab cannot run here: missing root (use sudo)\n"
    assert capsys.readouterr().err == expected


@attrs.frozen
class Peer:
    """
    Nothing but its name.
    """

    name: str


@attrs.define
class Trying:
    """
    Takes the place of trying a pair, and looks who is busy meanwhile.
    """

    steps: int = 0
    busy: list[str] = attrs.Factory(list)
    conflicts: list[tuple[str, str]] = attrs.Factory(list)
    most: int = 0
    _lock: Any = attrs.Factory(threading.Lock)
    _pause: Any = attrs.Factory(threading.Event)

    def __call__(self, kind: str, otherKind: str, caller: Peer, callee: Peer) -> Cell:
        names = [caller.name, callee.name]
        with self._lock:
            if not set(names).isdisjoint(self.busy):
                self.conflicts.append((kind, otherKind))
            self.busy += names
            self.most = max(self.most, len(self.busy) // 2)
        self._pause.wait(0.01)
        with self._lock:
            for name in names:
                self.busy.remove(name)
        return Cell(kind, otherKind)

    def begin(self, what: str, count: int) -> None:
        """
        As of C{Steps}.
        """

    def step(self) -> None:
        """
        As of C{Steps}.
        """
        self.steps += 1


def test_slowPairsOverlapButNoPeerIsInTwo(monkeypatch: pytest.MonkeyPatch) -> None:
    trying = Trying()
    monkeypatch.setattr(command, "_try", trying)
    monkeypatch.setattr(command, "_LONG", 0.0)
    kinds = ["a", "b", "c", "d"]
    pairs: list[Any] = [
        (one, other, Peer(f"{one}.left"), Peer(f"{other}.right"))
        for one, other in combinations_with_replacement(kinds, 2)
    ]
    with ThreadPoolExecutor(len(kinds)) as pool:
        cells = command._tryAll(pool, pairs, trying)
    assert [(cell.caller, cell.callee) for cell in cells] == [pair[:2] for pair in pairs]
    assert trying.conflicts == []
    assert trying.most > 1
    assert trying.steps == len(pairs)
