"""
What a burst of guesses costs: seconds from the first socket to the last, and processor time.

Run it as root: C{python -m tests.benchmarks.guessing [ROUNDS]}. A host behind a port-restricted NAT
of the lab dials 256 ports of an address that nobody has, from one held port, and then one port from
256 new ones, as the two sides of the strategy C{birthday} do; real reactor, real sockets, real
SYNs. A round ends when the sockets are given up; the CPU time is that of the whole round, of
opening, watching and closing them.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from contextlib import suppress
from random import Random
from typing import Any

from punchd.testing.natlab import NatLab

_PROBES = 256
_WAIT = 0.2


def main() -> None:
    """
    Measure, and print the table; with C{child}, be the host.
    """
    if sys.argv[1:2] == ["child"]:
        _measure(sys.argv[2], int(sys.argv[3]))
        return
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with NatLab(delay=0.025) as lab:
        host = lab.addHost("host", "port-restricted")
        argv = [sys.executable, "-m", "tests.benchmarks.guessing", "child", "198.18.99.9"]
        done = host.run([*argv, str(rounds)], timeout=60 + rounds)
        print(f"{_PROBES} probes, medians of {rounds} rounds (the worst in brackets)")
        print(f"{'':34} {'sent in':>16} {'CPU':>18}")
        for line in done.stdout.splitlines():
            what, walls, cpus = json.loads(line)
            print(f"{what:34} {_show(walls):>16} {_show(cpus):>18}")


def _show(seconds: list[float]) -> str:
    return f"{statistics.median(seconds) * 1000:.1f} ms ({max(seconds) * 1000:.1f})"


def _measure(target: str, rounds: int) -> None:
    # In the child alone: the reactor belongs to the host's namespace.
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred, succeed
    from twisted.internet.protocol import Factory, Protocol
    from twisted.internet.task import deferLater

    from punchd.net.held import HeldPort
    from punchd.net.racing import RaceLost
    from punchd.net.spraying import Spray
    from punchd.values.addresses import makeAddress

    real: Any = reactor
    random, factory = Random(7761), Factory.forProtocol(Protocol)

    async def burst(remotes: list[Any], port: HeldPort | None) -> tuple[float, float]:
        spray = Spray(real, port, succeed, lambda *fate: None)
        spent, began = time.process_time(), time.perf_counter()
        dialling = spray.dial(remotes, factory, _WAIT)
        sent = time.perf_counter() - began
        with suppress(RaceLost):
            await dialling
        assert spray.dialled == _PROBES
        return sent, time.process_time() - spent

    async def run() -> None:
        held = HeldPort.take(real, factory)
        for what, port in (("one port to 256", held), ("256 new ports to one", None)):
            results = []
            for _ in range(rounds):
                numbers = random.sample(range(1024, 65536), _PROBES)
                remotes = [makeAddress(target, number) for number in numbers]
                results.append(await burst(remotes if port else remotes[:1] * _PROBES, port))
                await deferLater(real, 0.05)
            print(json.dumps([what, *map(list, zip(*results, strict=True))]))
        await held.close()

    def stop(result: object) -> object:
        real.stop()
        return result

    real.callWhenRunning(lambda: Deferred.fromCoroutine(run()).addBoth(stop))
    real.run()


if __name__ == "__main__":
    main()
