"""
One stream's throughput and cost through C{--forward}, against the same stream through C{ssh -L}.

Run it as root: C{python -m tests.benchmarks.bulk [MEGABYTES] [RUNS]}. Two public sites without
delay; the runs of both alternate. CPU is user and system time of all processes of the tunnel, both
ends.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from pathlib import Path

from punchd.testing.deployment import Deployment
from punchd.testing.natlab import Host, NatLab
from tests.benchmarks.openssh import OpenSSH
from tests.benchmarks.programs import SINK, SOURCE

_SOURCE_PORT = 7007
_FORWARD_PORT = 7008
_TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """
    Measure, and print the table.
    """
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    with NatLab(delay=0) as lab:
        server, alice, bob = (lab.addPublic(name) for name in ("server", "alice", "bob"))
        with Deployment(server) as deployment:
            source = f"tcp:127.0.0.1:{_SOURCE_PORT}"
            bobPeer = deployment.addPeer(bob, exposures={"source": source})
            alicePeer = deployment.addPeer(alice, forwards={str(_FORWARD_PORT): "bob/source"})
            deployment.acquaint()
            deployment.start()
            bob.popen(["python3", "-c", SOURCE, str(_SOURCE_PORT), str(megabytes * 1_000_000)])
            ssh = OpenSSH(deployment.folder)
            daemon = ssh.serve(bob)
            client = ssh.forward(alice, bob.address, "-L", f"9001:127.0.0.1:{_SOURCE_PORT}")
            ssh.awaitForward(alice, 9001)
            results: dict[str, list[tuple[float, float]]] = {"punchd": [], "ssh -L": []}
            for _ in range(runs):
                for name, port, pids in (
                    ("punchd", _FORWARD_PORT, [alicePeer.pid, bobPeer.pid]),
                    ("ssh -L", 9001, [client.pid, daemon.pid]),
                ):
                    results[name].append(_run(alice, port, pids))
            for name, figures in results.items():
                speed = statistics.median(speed for speed, _ in figures)
                cost = statistics.median(cost for _, cost in figures)
                print(f"{name:8} {speed:8.0f} MB/s {cost:8.2f} CPU seconds per GB")
            pairs = list(zip(results["punchd"], results["ssh -L"], strict=True))
            speed = statistics.median(ours[0] / theirs[0] for ours, theirs in pairs)
            cost = statistics.median(ours[1] / theirs[1] for ours, theirs in pairs)
            print(f"punchd / ssh -L: speed {speed:.2f}, CPU per GB {cost:.2f} (medians of {runs})")


def _run(host: Host, port: int, pids: list[int]) -> tuple[float, float]:
    before = sum(_cpu(pid) for pid in pids)
    done = host.run(["python3", "-c", SINK, "127.0.0.1", str(port)], timeout=300)
    count, seconds = json.loads(done.stdout)
    return count / seconds / 1e6, (sum(_cpu(pid) for pid in pids) - before) / (count / 1e9)


def _cpu(pid: int) -> float:
    """
    CPU seconds of a process and its living descendants (sshd works in one of them).
    """
    total = 0.0
    for one in _family(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        # utime, stime: fields 14 and 15 of proc(5), counted from the third.
        total += (int(fields[11]) + int(fields[12])) / _TICKS
    return total


def _family(pid: int) -> list[int]:
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").iterdir():
            found.extend(int(child) for child in (task / "children").read_text().split())
    return found


if __name__ == "__main__":
    main()
