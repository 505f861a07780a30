"""
C{punchd lab}: a server and two peers behind NATs of every kind, in one Linux kernel, and who of
them gets a direct connection.
"""

from __future__ import annotations

import os
import statistics
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any, Final, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from punchd.cli.control import Failed, ask
from punchd.cli.matrix import LANS, Cell, Matrix, render
from punchd.cli.picture import picture
from punchd.cli.showing import showFacts
from punchd.testing.deployment import Deployment, DeploymentError, PeerProcess
from punchd.testing.natlab import KINDS, LabError, LabUnavailable, NatLab

#: A pair that takes longer than this is waited for while other ones are tried: those that cannot
#: connect take eight seconds to be sure of it. It is more than the quick ones take, so that these
#: are measured alone.
_LONG: Final = 1.0

#: Connections whose median is the round trip.
_MEASUREMENTS: Final = 9

# The programs' language is no matter here, but its start must not count.
_MEASURE: Final = """
import socket, sys, time
for _ in range(int(sys.argv[3])):
    began = time.monotonic()
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 5.0).close()
    print(time.monotonic() - began)
"""


class Steps(Protocol):
    """
    Who shows how far it is.
    """

    def begin(self, what: str, count: int) -> None:
        """C{count} steps of something follow."""

    def step(self) -> None:
        """One of them is done."""


class _ProgressBar:
    """
    On standard error, if that is a terminal.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("Building the lab", total=None)

    def begin(self, what: str, count: int) -> None:
        self._progress.reset(self._task, description=what, total=count)

    def step(self) -> None:
        self._progress.advance(self._task)


@contextmanager
def _progressBar() -> Iterator[Steps]:
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        yield _ProgressBar(progress)


def lab(options: Namespace) -> int:
    """
    Run the command.

    @param options: C{kinds}, C{delay}, C{json} and C{svg} as on the command line.
    """
    kinds = [*KINDS, *LANS] if options.kinds is None else options.kinds.split(",")
    unknown = [kind for kind in kinds if kind not in KINDS and kind not in LANS]
    if unknown:
        known = ", ".join([*KINDS, *LANS])
        sys.stderr.write(f"punchd: there is no kind of NAT {unknown[0]!r}; there are {known}\n")
        return 2
    if not 0 <= options.delay <= 1000:
        sys.stderr.write(f"punchd: --delay is 0 to 1000 ms, not {options.delay:g}\n")
        return 2
    if options.svg is not None and not os.access(Path(options.svg).absolute().parent, os.W_OK):
        # Better said now than when everything has been measured.
        raise Failed(f"cannot write {options.svg}: no such folder, or no permission")
    try:
        with _progressBar() as steps:
            matrix = measure(list(dict.fromkeys(kinds)), options.delay / 1000, steps)
    except (LabUnavailable, LabError, DeploymentError) as error:
        raise Failed(str(error)) from None
    if options.svg is not None:
        _write(options.svg, picture(matrix))
    if options.json:
        showFacts(matrix.toJSON())
    else:
        Console().print(render(matrix))
    return 0


def _write(path: str, text: str) -> None:
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failed(f"cannot write {path}: {error.strerror}") from None


def measure(kinds: Sequence[str], delay: float, steps: Steps) -> Matrix:
    """
    Build the lab and try all pairs.

    @param kinds: of NAT, or sorts of LAN.
    @param delay: one-way, in seconds.
    @raise LabUnavailable: when this machine cannot carry a lab.
    """
    nats = [kind for kind in KINDS if kind in kinds]
    # The pool is the last to be closed: its threads wait for answers of processes. There is one for
    # each caller.
    with (
        ThreadPoolExecutor(len(KINDS) + len(LANS)) as pool,
        NatLab(delay=delay) as built,
        # From a second address it sees all that can be known of a NAT.
        Deployment(built.addPublic("server", addresses=2)) as deployment,
    ):
        pairs = _addPeers(built, deployment, nats, [lan for lan in LANS if lan in kinds])
        deployment.acquaint()
        steps.begin("Starting processes", 1 + len(deployment.peers))
        deployment.start(lambda name: steps.step())
        deployment.awaitKnown()
        roundTrip = _roundTrip(built, deployment)
        steps.begin("Trying pairs", len(pairs))
        cells = _tryAll(pool, pairs, steps)
    return Matrix(
        titles={name: KINDS[name].title for name in nats},
        cells=[cell for cell in cells if cell.caller not in LANS],
        roundTrip=roundTrip,
        neighbours=[cell for cell in cells if cell.caller in LANS],
    )


_Pair = tuple[str, str, PeerProcess, PeerProcess]


def _addPeers(
    built: NatLab, deployment: Deployment, nats: Sequence[str], lans: Sequence[str]
) -> list[_Pair]:
    left = {kind: deployment.addPeer(built.addHost(f"{kind}.left", kind)) for kind in nats}
    right = {kind: deployment.addPeer(built.addHost(f"{kind}.right", kind)) for kind in nats}
    pairs = [
        (caller, callee, left[caller], right[callee])
        for caller, callee in combinations_with_replacement(nats, 2)
    ]
    for lan in lans:
        host = built.addHost(f"{lan}.left", "port-restricted", hairpins=lan == "hairpin")
        other = built.addNeighbour(f"{lan}.right", host)
        pairs.append((lan, lan, deployment.addPeer(host), deployment.addPeer(other)))
    return pairs


def _roundTrip(built: NatLab, deployment: Deployment) -> float:
    """
    What TCP takes to connect two public hosts.
    """
    server = deployment.server.host
    port = deployment.server.joinAddress.partition("#")[0].rpartition(":")[2]
    done = built.addPublic("probe").run(
        [sys.executable, "-IS", "-c", _MEASURE, server.address, port, str(_MEASUREMENTS)]
    )
    return statistics.median(map(float, done.stdout.split()))


def _tryAll(pool: ThreadPoolExecutor, pairs: Sequence[_Pair], steps: Steps) -> list[Cell]:
    """
    Each pair's cell, in the order of the pairs.

    No peer has two introductions at a time: what one of them opens could help the other.
    """
    found: dict[_Pair, Future[Cell]] = {}
    running: set[_Pair] = set()
    while len(found) < len(pairs) or running:
        busy = {name for pair in running for name in _namesOfPeers(pair)}
        # From the end, as the most closed kinds, which take longest, come last.
        ready = (
            pair
            for pair in reversed(pairs)
            if pair not in found and busy.isdisjoint(_namesOfPeers(pair))
        )
        pair = next(ready, None)
        if pair is None:
            wait([found[each] for each in running], return_when=FIRST_COMPLETED)
        else:
            found[pair] = pool.submit(_try, *pair)
            running.add(pair)
            wait([found[pair]], timeout=_LONG)
        for each in [each for each in running if found[each].done()]:
            running.remove(each)
            steps.step()
    return [found[pair].result() for pair in pairs]


def _namesOfPeers(pair: _Pair) -> set[str]:
    return {pair[2].name, pair[3].name}


def _try(kind: str, otherKind: str, caller: PeerProcess, callee: PeerProcess) -> Cell:
    try:
        answer = ask(str(caller.state), "ping", peer=callee.name, again="yes")
    except Failed as failure:
        return Cell(kind, otherKind, reason=str(failure))
    seconds: dict[str, Any] = answer["seconds"]
    return Cell(kind, otherKind, answer["strategy"], seconds["connected"], seconds["elected"])
