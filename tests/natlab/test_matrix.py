"""
C{punchd lab}, from the command line to the picture.
"""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import attrs
import pytest

from punchd.testing.daemons import program

KINDS = ["public", "port-restricted", "random"]


@attrs.frozen
class Shown:
    """
    What the command has printed and written.
    """

    pid: int
    facts: dict[str, Any]
    errors: str
    picture: str

    def pair(self, caller: str, callee: str) -> dict[str, Any]:
        """
        The facts about one pair.
        """
        found = (
            each
            for each in self.facts["pairs"]
            if (each["caller"], each["callee"]) == (caller, callee)
        )
        return next(found)


@pytest.fixture(scope="module")
def shown() -> Iterator[Shown]:
    with tempfile.TemporaryDirectory() as folder:
        svg = Path(folder) / "matrix.svg"
        arguments = [
            "lab",
            "--kinds",
            ",".join([*KINDS, "lan", "hairpin"]),
            "--delay",
            "10",
            "--json",
        ]
        process = subprocess.Popen(
            [program("punchd"), *arguments, "--svg", svg],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        output, errors = process.communicate(timeout=60.0)
        assert process.returncode == 0, errors
        yield Shown(process.pid, json.loads(output), errors, svg.read_text(encoding="utf-8"))


def left(pid: int) -> list[str]:
    """
    What is still there of the lab of a process.
    """
    namespaces = Path("/run/netns")
    return [each.name for each in namespaces.glob(f"natlab-{pid}-*")]


def test_everyPairIsTriedOnce(shown: Shown) -> None:
    assert [(each["caller"], each["callee"]) for each in shown.facts["pairs"]] == [
        ("public", "public"),
        ("public", "port-restricted"),
        ("public", "random"),
        ("port-restricted", "port-restricted"),
        ("port-restricted", "random"),
        ("random", "random"),
    ]


def test_theRoundTripIsMeasured(shown: Shown) -> None:
    assert 0.02 <= shown.facts["roundTrip"] <= 0.03


def test_conesConnectInTwoRoundTripsAndALittle(shown: Shown) -> None:
    """
    One for the introduction and one for TCP; the little is large where the machine is busy.
    """
    pair = shown.pair("port-restricted", "port-restricted")
    assert pair["path"] == "direct"
    assert 1.9 <= pair["roundTrips"] <= 4.0


def test_whatCannotConnectSaysWhy(shown: Shown) -> None:
    pair = shown.pair("random", "random")
    assert (pair["path"], pair["strategy"], pair["roundTrips"]) == (None, None, None)
    assert "no direct path to random.right: " in pair["reason"]


def test_theNeighboursAreThere(shown: Shown) -> None:
    found = {each["caller"]: each["strategy"] for each in shown.facts["neighbours"]}
    assert found == {"lan": "lan", "hairpin": "lan"}


def test_thePictureHasACellForEachPair(shown: Shown) -> None:
    root = ElementTree.fromstring(shown.picture)
    assert len(root.findall("{http://www.w3.org/2000/svg}g")) == len(shown.facts["pairs"])


def test_noProgressWithoutATerminal(shown: Shown) -> None:
    assert shown.errors == ""


def test_nothingIsLeft(shown: Shown) -> None:
    assert left(shown.pid) == []


def test_interruptingItLeavesNothing() -> None:
    """
    Control-C while pairs are being tried.
    """
    process = subprocess.Popen(
        [program("punchd"), "lab", "--kinds", "random"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background lets its children ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    until = time.monotonic() + 20.0
    # The core, the server, two sites with a router each, and the host that measures, which comes
    # when everything has been started.
    while len(left(process.pid)) < 7:
        assert time.monotonic() < until
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10.0)
    assert (process.returncode, errors) == (130, "")
    assert left(process.pid) == []
