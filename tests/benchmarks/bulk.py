"""
One stream's throughput and cost through C{--forward}, and those of other tunnels.

Run it as root: C{python -m tests.benchmarks.bulk [MEGABYTES] [RUNS] [DELAY]}. Two public sites,
DELAY seconds one way apart (none, if left out); the runs of all alternate, and figures are medians.
CPU is user and system time of all processes of a tunnel, both ends. C{plain TCP} is the same source
and the same sink without a tunnel. What is not installed (see L{tests.benchmarks.rivals}) is told
and left out.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import time

from punchd.testing.deployment import Deployment
from punchd.testing.natlab import Host, NatLab
from tests.benchmarks.openssh import OpenSSH
from tests.benchmarks.programs import SINK, SOURCE
from tests.benchmarks.rivals import Rivals, Tunnel

_SOURCE_PORT = 7007
_FORWARD_PORT = 7008


def main() -> None:
    """
    Measure, and print the table.
    """
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    delay = float(sys.argv[3]) if len(sys.argv) > 3 else 0
    with NatLab(delay=delay) as lab:
        server, alice, bob = (lab.addPublic(name) for name in ("server", "alice", "bob"))
        with Deployment(server) as deployment:
            source = f"tcp:127.0.0.1:{_SOURCE_PORT}"
            bobPeer = deployment.addPeer(bob, exposures={"source": source})
            alicePeer = deployment.addPeer(alice, forwards={str(_FORWARD_PORT): "bob/source"})
            deployment.acquaint()
            deployment.start()
            bob.popen(["python3", "-c", SOURCE, str(_SOURCE_PORT), str(megabytes * 1_000_000)])
            ssh = OpenSSH(deployment.folder)
            ssh.awaitForward(bob, _SOURCE_PORT)
            rivals = Rivals(deployment.folder, alice, bob, ssh)
            pids = [alicePeer.pid, bobPeer.pid]
            tunnels = [
                Tunnel("punchd", "127.0.0.1", _FORWARD_PORT, pids),
                Tunnel("plain TCP", bob.address, _SOURCE_PORT),
                *rivals.start(_SOURCE_PORT),
            ]
            if delay:
                # It has 128 KiB under way at most, and would take minutes.
                print("left out, as there is a delay: conch", file=sys.stderr)
                tunnels = [one for one in tunnels if not one.name.startswith("conch")]
            results: dict[str, list[tuple[float, float]]] = {}
            for _ in range(runs):
                for tunnel in list(tunnels):
                    try:
                        results.setdefault(tunnel.name, []).append(_run(alice, tunnel))
                    except (subprocess.CalledProcessError, OSError) as error:
                        if tunnel.name == "punchd":
                            raise
                        print(f"{tunnel.name} broke, so left out: {error!r:.60}", file=sys.stderr)
                        tunnels.remove(tunnel)
                        del results[tunnel.name]
            print(f"medians of {runs} runs of {megabytes} MB, {delay * 1000:.0f} ms one way")
            print(f"{'':14} {'MB/s':>8} {'CPU s/GB':>9}   punchd's, in runs side by side:")
            for name in results:
                _show(name, results)
            _iperf(alice, bob, 5)


def _run(host: Host, tunnel: Tunnel) -> tuple[float, float]:
    before = tunnel.cpu
    argv = ["python3", "-c", SINK, tunnel.address, str(tunnel.port)]
    count, seconds = json.loads(host.run(argv, timeout=300).stdout)
    return count / seconds / 1e6, (tunnel.cpu - before) / (count / 1e9)


def _show(name: str, results: dict[str, list[tuple[float, float]]]) -> None:
    speed = statistics.median(speed for speed, _ in results[name])
    cost = statistics.median(cost for _, cost in results[name])
    line = f"{name:14} {speed:8.0f} {f'{cost:9.2f}' if cost else '        -'}"
    if name != "punchd":
        pairs = list(zip(results["punchd"], results[name], strict=True))
        line += f"   speed x {statistics.median(o[0] / t[0] for o, t in pairs):.2f}"
        if cost:
            line += f", CPU x {statistics.median(o[1] / t[1] for o, t in pairs):.2f}"
    print(line)


def _iperf(alice: Host, bob: Host, seconds: int) -> None:
    if shutil.which("iperf3") is None:
        print("not installed, so left out: iperf3", file=sys.stderr)
        return
    bob.popen(["iperf3", "-s", "-1"], stdout=subprocess.DEVNULL)
    for _ in range(20):
        argv = ["iperf3", "-c", bob.address, "-R", "-J", "-t", str(seconds)]
        done = alice.run(argv, check=False, timeout=seconds + 30)
        # A run that was cut short ends well, too, but without a sum.
        end = json.loads(done.stdout)["end"] if done.returncode == 0 else {}
        if "sum_received" in end:
            print(f"{'iperf3':14} {end['sum_received']['bits_per_second'] / 8e6:8.0f}")
            return
        time.sleep(0.1)
    print("iperf3 did not run", file=sys.stderr)


if __name__ == "__main__":
    main()
