"""
How long until a link runs over another direct path, after one of its ends has moved.

Run it as root: C{python -m tests.benchmarks.moving [RUNS]}. 25 ms one way everywhere, a
port-restricted NAT at one end and one that resets at the other. Either the host of one end gets
another address (a laptop in another network), or the router before it does (a provider that
disconnects everybody at night). For a link that nobody has used for a while: seconds until another
path is there. For one with a stream on which something is said all the time, which moves to the
relay meanwhile: seconds for which that stream stands still, at most; whether it says something or
hears it. Medians of RUNS, and the worst.
"""

from __future__ import annotations

import itertools
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from punchd.link.keeping import LATELY
from punchd.testing.daemons import program
from punchd.testing.deployment import Deployment, PeerProcess
from punchd.testing.natlab import NatLab
from tests.natlab.laptop import Laptop
from tests.natlab.source import Ticks

_DELAY = 0.025

#: Seconds from one word of the stream to the next.
_TICK = 0.01

#: Seconds without a word after which a link is idle.
_IDLE = LATELY + 1.5

#: Seconds after which everything must be over.
_PATIENCE = 30.0


def main() -> None:
    """
    Measure, and print the table.
    """
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with (
        tempfile.TemporaryDirectory() as folder,
        Ticks(Path(folder) / "ticks", _TICK) as ticks,
        NatLab(delay=_DELAY) as lab,
        Deployment(lab.addPublic("server", addresses=2), relay=True) as deployment,
    ):
        exposures = {"ticks": ticks.endpoint}
        peer = deployment.addPeer(lab.addHost("laptop", "port-restricted"), exposures=exposures)
        friend = deployment.addPeer(lab.addHost("friend", "reset"), exposures=exposures)
        deployment.acquaint()
        deployment.start()
        laptop = Laptop(peer, friend)
        print(f"{'seconds: medians, and the worst':32}     idle link    stream out     stream in")
        changes: list[tuple[str, Callable[[], object]]] = [
            ("another address of the host", laptop.move),
            ("another address of its router", lambda: lab.renumber(peer.host)),
        ]
        for what, change in changes:
            taken = [
                [_idle(laptop, change) for _ in range(runs)],
                [_used(laptop, friend, peer, change) for _ in range(runs)],
                [_used(laptop, peer, friend, change) for _ in range(runs)],
            ]
            shown = [f"{statistics.median(each):7.2f} {max(each):5.2f}" for each in taken]
            print(f"{what:32} {' '.join(shown)}", flush=True)


def _idle(laptop: Laptop, change: Callable[[], object]) -> float:
    _direct(laptop)
    time.sleep(_IDLE)
    moves = laptop.link["moves"]
    began = time.monotonic()
    change()
    laptop.awaitMoved(moves, _PATIENCE)
    return time.monotonic() - began


def _used(
    laptop: Laptop, hears: PeerProcess, says: PeerProcess, change: Callable[[], object]
) -> float:
    _direct(laptop)
    argv = [str(program("punchd")), "connect", "--state", str(hears.state), f"{says.name}/ticks"]
    process = hears.host.popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    said: list[tuple[float, int]] = []

    def listen() -> None:
        assert process.stdout is not None
        while len(line := process.stdout.readline()) > 1:
            said.append((time.monotonic(), int(line)))

    listening = threading.Thread(target=listen)
    listening.start()
    try:
        time.sleep(3)
        moves = laptop.link["moves"]
        change()
        laptop.awaitMoved(moves, _PATIENCE)
        time.sleep(1)
    finally:
        process.kill()
        process.wait()
        listening.join()
    if [number for _, number in said] != list(range(len(said))):
        raise AssertionError("something was lost, or came twice")
    return max(later - sooner for (sooner, _), (later, _) in itertools.pairwise(said))


def _direct(laptop: Laptop) -> None:
    until = time.monotonic() + _PATIENCE
    while laptop.peer.ping(laptop.friend)["path"] != "direct":
        if time.monotonic() > until:
            raise AssertionError("there is no direct path")
        time.sleep(0.5)


if __name__ == "__main__":
    main()
