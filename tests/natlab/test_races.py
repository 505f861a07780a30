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
"""Each race has a port of its own: a NAT remembers what was before."""


@attrs.frozen
class Race:
    """
    Two hosts behind NATs of one kind, the second of which begins later.

    @ivar skew: by how many seconds.
    @ivar number: of the repetition.
    """

    kind: str
    skew: float = 0.0
    listening: bool = False
    number: int = 0


KINDS: Final = ("port-restricted", "reset", "icmp")

EQUAL: Final = [Race(kind) for kind in KINDS]
SKEWED: Final = [Race("reset", skew, number=n) for skew in (0.1, 0.25, 0.4) for n in range(2)]
LISTENING: Final = [
    Race(kind, skew, listening=True) for kind in ("port-restricted", "reset") for skew in (0.1, 0.3)
]
SILENT: Final = Race("port-restricted", 0.3)
ALL: Final = [*EQUAL, *SKEWED, *LISTENING, SILENT]

Sides = list[dict[str, Any]]


@pytest.fixture(scope="module")
def results() -> dict[Race, Sides]:
    """
    What came of all races on both sides, run at the same time.
    """
    with NatLab(delay=DELAY) as lab, ThreadPoolExecutor(2 * len(ALL)) as pool:
        hosts = {
            kind: (lab.addHost(f"{kind}.a", kind), lab.addHost(f"{kind}.b", kind)) for kind in KINDS
        }
        at = time.monotonic() + STARTING
        running = {
            race: [
                pool.submit(_side, race, hosts[race.kind], number, FIRST_PORT + index, at)
                for number in range(2)
            ]
            for index, race in enumerate(ALL)
        }
        return {race: [side.result() for side in sides] for race, sides in running.items()}


def _side(race: Race, pair: tuple[Host, Host], number: int, port: int, at: float) -> dict[str, Any]:
    own, other = pair[number], pair[1 - number]
    options = {
        "at": at + race.skew * number,
        "listening": race.listening,
        "retries": 60,
        "seed": 2 * race.number + number,
    }
    done = own.run(
        [
            *(sys.executable, "-m", racer.__name__),
            *(str(port), other.outside, str(port), json.dumps(options)),
        ],
        timeout=STARTING + racer.PATIENCE + 5,
    )
    outcome: dict[str, Any] = json.loads(done.stdout)
    return outcome


@pytest.mark.parametrize("race", EQUAL, ids=str)
def test_equalStartsConnectAtTheFirstTry(results: dict[Race, Sides], race: Race) -> None:
    for side in results[race]:
        assert (side["result"], side["tries"]) == ("connected", ["connected"])


@pytest.mark.parametrize("race", SKEWED, ids=str)
def test_earlySynsThatAreResetDoNotPreventIt(results: dict[Race, Sides], race: Race) -> None:
    """
    With fixed steps on both sides it would never connect; with random ones it does. (Where ICMP
    answers, unequal starts are lost half the time: that is what the GO at one moment is for.)
    """
    sides = results[race]
    assert [side["result"] for side in sides] == ["connected"] * 2, sides
    assert max(side["seconds"] for side in sides) < race.skew + 2, sides
    # It did take more than one try: the first SYN came too early, and was answered.
    assert len(sides[0]["tries"]) > 1


@pytest.mark.parametrize("race", LISTENING, ids=str)
def test_aListenerBehindTheNatDoesNotSpoilIt(results: dict[Race, Sides], race: Race) -> None:
    """
    Where a SYN finds only the listener, its answer does not fit what the NAT has seen: a dialling
    socket must be there, and where the four-tuple is blocked, the listener must go.
    """
    sides = results[race]
    assert {side["result"] for side in sides} <= {"connected", "accepted"}, sides


def test_aSilentNatTakesTheLateSyn(results: dict[Race, Sides]) -> None:
    """
    Where early SYNs vanish, the first socket is still there when the other one dials.
    """
    sides = results[SILENT]
    assert [side["tries"] for side in sides] == [["connected"]] * 2, sides
