"""
What several streams between two peers cost each other, and how soon one answers.

Run it as root: C{python -m tests.benchmarks.streams [ROUNDS [SECONDS [MEGABYTES]]]}. Two public
sites; every stream is a connection through C{--forward}, beside C{ssh -L} and without a tunnel.
Without delay: how long a request of 64 bytes takes while nothing else happens, while another stream
carries 20 MB/s, and while one or 20 are as busy as they can be; and 100 streams together against
one. With 25 ms one way: how long until one more stream has brought back its first byte, in units of
R, the time of a TCP connect between the two sites. And on a slow line: how long a request takes
beside transfers. Requests follow one another for SECONDS, and streams carry MEGABYTES, each time.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain

from attrs import define, field, frozen

from punchd.testing.deployment import Deployment
from punchd.testing.natlab import Host, NatLab
from tests.benchmarks.openssh import OpenSSH
from tests.benchmarks.programs import ECHO, PACED_SINK, REQUESTS, SINKS, SOURCES, TIME_ECHO

_ECHO_PORT, _SOURCE_PORT = 7006, 7007
_DELAY = 0.025
# A slow line, as many homes have it towards the network: and what may wait in its router.
_LINE = "16mbit"
_LINE_DELAY = 0.01
_LINE_QUEUE = "60ms"
_SEVERAL = 20
_MANY = 100
# Comparisons of one with many in a round: they take little time, and differ much.
_COMPARISONS = 3
_PACE = 20_000_000
_ALONE = "alone"
_BESIDE: dict[str, Sequence[str]] = {
    _ALONE: (),
    f"beside {_PACE // 10**6} MB/s": (PACED_SINK, str(_PACE)),
    "beside as much as can be": (SINKS, "1", str(10**12)),
    f"beside {_SEVERAL} such": (SINKS, str(_SEVERAL), str(10**12)),
}


@frozen
class _Extent:
    """
    How much is measured.

    @ivar seconds: of requests that follow one another, each time.
    @ivar megabytes: that one stream, or many together, carry each time.
    """

    rounds: int = field(default=5, converter=int)
    seconds: float = field(default=3.0, converter=float)
    megabytes: int = field(default=1000, converter=int)


@frozen
class _Way:
    """
    How alice reaches the echo and the source of bob.
    """

    name: str
    address: str
    echo: int
    source: int


def main() -> None:
    """
    Measure, and print the tables.
    """
    extent = _Extent(*sys.argv[1:])
    with _ways(0) as (alice, ways):
        figures = _alternate(extent, ways, alice)
        print(f"{'a 64-byte request, no delay':44} {'p50':>9} {'p99':>9}   p99 / alone")
        for way, figure in zip(ways, figures, strict=True):
            for beside, rounded in figure.requests.items():
                taken = list(chain.from_iterable(rounded))
                alone = figure.requests[_ALONE]
                quotient = statistics.median(
                    _quantile(here, 99) / _quantile(there, 99)
                    for here, there in zip(rounded, alone, strict=True)
                )
                print(
                    f"{f'{way.name}, {beside}':44} {_micros(taken, 50)} {_micros(taken, 99)}   "
                    f"{quotient:.1f}"
                )
        for way, figure in zip(ways, figures, strict=True):
            one, many = statistics.median(figure.one), statistics.median(figure.many)
            print(
                f"{way.name:27} {one:.0f} MB/s over 1 stream, {many:.0f} over {_MANY} "
                f"({many / one:.2f})"
                f"{f', of which {figure.broken} broke' if figure.broken else ''}"
            )
    with _ways(_DELAY) as (alice, ways):
        first = {way.name: _firstBytes(alice, way, extent.rounds * 4) for way in ways}
        roundTrip = statistics.median(connected for connected, _ in first["no tunnel"])
        print(f"one more stream's first answered byte, R = {roundTrip * 1000:.2f} ms")
        for name, pairs in first.items():
            echoed = statistics.median(echoed for _, echoed in pairs)
            print(f"{name:27} {echoed / roundTrip:6.2f} R")
    with _ways(_LINE_DELAY, _LINE) as (alice, ways):
        for way in ways[:2]:
            for count in (0, 1, 6):
                sink = (SINKS, str(count), str(10**12)) if count else ()
                with _running(alice, way, sink):
                    # Until the line is full.
                    time.sleep(extent.seconds)
                    times = [_requests(alice, way, extent) for _ in range(extent.rounds)]
                taken = list(chain.from_iterable(times))
                print(
                    f"{f'{way.name}, over {_LINE}/s beside {count}':44} {_micros(taken, 50)} "
                    f"{_micros(taken, 99)}"
                )


@contextmanager
def _ways(delay: float, line: str = "") -> Iterator[tuple[Host, list[_Way]]]:
    with NatLab(delay=delay) as lab:
        server, alice, bob = (lab.addPublic(name) for name in ("server", "alice", "bob"))
        if line:
            queue = f"tbf rate {line} burst 32kb latency {_LINE_QUEUE}"
            bob.run(["tc", "qdisc", "add", "dev", "eth0", "root", *queue.split()])
        with Deployment(server) as deployment:
            ports = {"echo": _ECHO_PORT, "source": _SOURCE_PORT}
            exposures = {name: f"tcp:127.0.0.1:{port}" for name, port in ports.items()}
            deployment.addPeer(bob, exposures=exposures)
            forwards = {"7106": "bob/echo", "7107": "bob/source"}
            deployment.addPeer(alice, forwards=forwards)
            deployment.acquaint()
            deployment.start()
            bob.popen(["python3", "-c", ECHO, str(_ECHO_PORT)])
            # More than anybody takes: who has had enough goes away.
            bob.popen(["python3", "-c", SOURCES, str(_SOURCE_PORT), str(10**12)])
            ssh = OpenSSH(deployment.folder)
            ssh.serve(bob)
            options = [
                *("-L", f"7206:127.0.0.1:{_ECHO_PORT}"),
                *("-L", f"7207:127.0.0.1:{_SOURCE_PORT}"),
            ]
            ssh.forward(alice, bob.address, *options)
            ssh.awaitForward(alice, 7207)
            yield (
                alice,
                [
                    _Way("punchd --forward", "127.0.0.1", 7106, 7107),
                    _Way("ssh -L", "127.0.0.1", 7206, 7207),
                    _Way("no tunnel", bob.address, _ECHO_PORT, _SOURCE_PORT),
                ],
            )


@define
class _Figure:
    """
    What one way was measured to do, round by round.

    @ivar requests: the seconds of each, by what happened beside them.
    @ivar one: MB/s of one stream, C{many}: of many.
    @ivar broken: the most that broke of many.
    """

    requests: dict[str, list[list[float]]] = field(factory=lambda: {each: [] for each in _BESIDE})
    one: list[float] = field(factory=list)
    many: list[float] = field(factory=list)
    broken: int = 0


def _alternate(extent: _Extent, ways: list[_Way], alice: Host) -> list[_Figure]:
    figures = [_Figure() for _ in ways]
    for _ in range(extent.rounds):
        for way, figure in zip(ways, figures, strict=True):
            for beside, sink in _BESIDE.items():
                with _running(alice, way, sink):
                    figure.requests[beside].append(_requests(alice, way, extent))
            for _ in range(_COMPARISONS):
                figure.one.append(_together(alice, way, 1, extent)[0])
                speed, lost = _together(alice, way, _MANY, extent)
                figure.many.append(speed)
                figure.broken = max(figure.broken, lost)
    return figures


def _requests(alice: Host, way: _Way, extent: _Extent) -> list[float]:
    argv = ["python3", "-c", REQUESTS, way.address, str(way.echo), str(extent.seconds)]
    times: list[float] = json.loads(alice.run(argv, timeout=extent.seconds + 30).stdout)
    return times


@contextmanager
def _running(alice: Host, way: _Way, sink: Sequence[str]) -> Iterator[None]:
    """
    Another stream, and who reads it: a program and its arguments behind host and port, if any.
    """
    if not sink:
        yield
        return
    program, *arguments = sink
    argv = ["python3", "-c", program, way.address, str(way.source), *arguments]
    reading = alice.popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        reading.kill()
        reading.wait()


def _together(alice: Host, way: _Way, count: int, extent: _Extent) -> tuple[float, int]:
    total = extent.megabytes * 1_000_000
    argv = ["python3", "-c", SINKS, way.address, str(way.source), str(count), str(total)]
    received, seconds, broken = json.loads(alice.run(argv, timeout=300).stdout)
    return float(received) / float(seconds) / 1e6, int(broken)


def _firstBytes(alice: Host, way: _Way, runs: int) -> list[list[float]]:
    argv = ["python3", "-c", TIME_ECHO, way.address, str(way.echo), str(runs), "0.3"]
    # The first one, which may have to bring about a link, is not one more.
    lines = alice.run(argv, timeout=runs * 5 + 20).stdout.splitlines()[1:]
    return [json.loads(line) for line in lines]


def _quantile(times: list[float], percent: int) -> float:
    return statistics.quantiles(times, n=100)[percent - 1]


def _micros(times: list[float], percent: int) -> str:
    return f"{_quantile(times, percent) * 1e6:6.0f} us"


if __name__ == "__main__":
    main()
