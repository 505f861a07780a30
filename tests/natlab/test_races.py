"""
What was measured of resets, of listeners behind Linux NATs, and of skewed starts, as tests of the
race itself: no server, no introduction, only two held ports and when they begin.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import attrs
import pytest

from punchd.testing.natlab import Host, NatLab
from tests.natlab import racer

DELAY: Final = 0.025
"""Seconds between two hosts, one way."""

STARTING: Final = 8.0
"""Seconds in which all programs are up, though they start at the same time."""

FIRST_PORT: Final = 20000
APART: Final = 100
"""Each race has ports of its own: a NAT remembers what was before."""


@attrs.frozen
class Race:
    """
    Two hosts behind NATs of one kind, the second of which begins later.

    @ivar skew: by how many seconds.
    @ivar times: how often it is run.
    """

    kind: str
    skew: float = 0.0
    listening: bool = False
    times: int = 1


KINDS: Final = ("port-restricted", "reset", "icmp")

EQUAL: Final = [Race(kind) for kind in KINDS]
SKEWED: Final = [Race("reset", skew, times=2) for skew in (0.1, 0.25, 0.4)]
LISTENING: Final = [
    Race(kind, skew, listening=True) for kind in ("port-restricted", "reset") for skew in (0.1, 0.3)
]
SILENT: Final = Race("port-restricted", 0.3)
HARDEST: Final = [Race("icmp", skew, times=8) for skew in (0.06, 0.1, 0.16)]
ALL: Final = [*EQUAL, *SKEWED, *LISTENING, SILENT, *HARDEST]

Sides = tuple[dict[str, Any], ...]


@pytest.fixture(scope="module")
def results() -> dict[Race, list[Sides]]:
    """
    What came of all races on both sides, each time, run at the same time.
    """
    with NatLab(delay=DELAY) as lab, ThreadPoolExecutor(2 * len(ALL)) as pool:
        hosts = {
            kind: (lab.addHost(f"{kind}.a", kind), lab.addHost(f"{kind}.b", kind)) for kind in KINDS
        }
        at = time.monotonic() + STARTING
        running = {
            race: [
                pool.submit(_side, race, hosts[race.kind], number, FIRST_PORT + APART * index, at)
                for number in range(2)
            ]
            for index, race in enumerate(ALL)
        }
        return {
            race: list(zip(*(side.result() for side in sides), strict=True))
            for race, sides in running.items()
        }


def _side(
    race: Race, pair: tuple[Host, Host], number: int, port: int, at: float
) -> list[dict[str, Any]]:
    own, other = pair[number], pair[1 - number]
    options = {
        "at": at + race.skew * number,
        "listening": race.listening,
        "retries": 60,
        "seed": number,
        "times": race.times,
    }
    done = own.run(
        [
            *(sys.executable, "-m", racer.__name__),
            *(other.outside, str(port), json.dumps(options)),
        ],
        timeout=STARTING + racer.PATIENCE + 5,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("race", EQUAL, ids=str)
def test_equalStartsConnectAtTheFirstTry(results: dict[Race, list[Sides]], race: Race) -> None:
    for sides in results[race]:
        for side in sides:
            assert (side["result"], side["tries"]) == ("connected", ["connected"])


@pytest.mark.parametrize("race", SKEWED, ids=str)
def test_earlySynsThatAreResetDoNotPreventIt(results: dict[Race, list[Sides]], race: Race) -> None:
    """
    With fixed steps on both sides it would never connect.
    """
    for sides in results[race]:
        assert [side["result"] for side in sides] == ["connected"] * 2, sides
        assert max(side["seconds"] for side in sides) < race.skew + 2, sides
        # It did take more than one try: the first SYN came too early, and was answered.
        assert len(sides[0]["tries"]) > 1


def test_earlySynsThatIcmpAnswersSeldomPreventIt(results: dict[Race, list[Sides]]) -> None:
    """
    A SYN that finds no socket between two tries spoils the four-tuple, so there is no pause between
    them. With pauses, half of them were lost; now nearly all connect.
    """
    all_ = [sides for race in HARDEST for sides in results[race]]
    assert all(len(sides[0]["tries"]) > 1 for sides in all_)
    lost = [sides for sides in all_ if {side["result"] for side in sides} != {"connected"}]
    assert len(lost) <= len(all_) / 8, lost


@pytest.mark.parametrize("race", LISTENING, ids=str)
def test_aListenerBehindTheNatDoesNotSpoilIt(results: dict[Race, list[Sides]], race: Race) -> None:
    """
    Where a SYN finds only the listener, its answer does not fit what the NAT has seen: a dialling
    socket must be there, and where the four-tuple is blocked, the listener must go.
    """
    for sides in results[race]:
        assert {side["result"] for side in sides} <= {"connected", "accepted"}, sides


def test_aSilentNatTakesTheLateSyn(results: dict[Race, list[Sides]]) -> None:
    """
    Where early SYNs vanish, the first socket is still there when the other one dials.
    """
    for sides in results[SILENT]:
        assert [side["tries"] for side in sides] == [["connected"]] * 2, sides
