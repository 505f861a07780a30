"""
The command C{punchd lab} where it builds no lab.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from punchd.cli import lab as command
from punchd.cli.main import main
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
