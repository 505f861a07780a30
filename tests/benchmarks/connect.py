"""
How long until a connection is there, in units of R, the round trip between two sites of the lab.

Run it as root: C{python -m tests.benchmarks.connect [RUNS]}. 25 ms one way everywhere; R is
measured in the same run, by TCP connects between two public sites. For each pair of NATs, medians
of: the caller's direct TCP connection, over RUNS paths, each as if there had been none; the first
byte of an echo through C{--forward}, answered end to end, TLS included, over a new link (some of
RUNS: the caller is started anew for each) and over one that is there. The rival is C{ssh -R} and
C{ssh -L} through the server, both sessions up.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from punchd.testing.deployment import Deployment, PeerProcess
from punchd.testing.natlab import Host, NatLab
from tests.benchmarks.openssh import OpenSSH
from tests.benchmarks.programs import ECHO, TIME_ECHO

_DELAY = 0.025
_PAIRS = [
    ("port-restricted", "port-restricted"),
    ("full-cone", "restricted"),
    ("shifted", "port-restricted"),
    ("reset", "icmp"),
    ("carrier", "firewall"),
]

#: A new link for so many others.
_ANEW = 4

_ECHO_PORT = 7007
_FORWARD_PORT = 7008


def main() -> None:
    """
    Measure, and print the table.
    """
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with NatLab(delay=_DELAY) as lab:
        publicHost, server = lab.addPublic("public"), lab.addPublic("server")
        publicHost.popen(["python3", "-c", ECHO, str(_ECHO_PORT)])
        with Deployment(server) as deployment:
            pairs = []
            for number, (left, right) in enumerate(_PAIRS):
                bob = deployment.addPeer(
                    lab.addHost(f"bob{number}", right),
                    exposures={"echo": f"tcp:127.0.0.1:{_ECHO_PORT}"},
                )
                alice = deployment.addPeer(
                    lab.addHost(f"alice{number}", left),
                    forwards={str(_FORWARD_PORT): f"bob{number}/echo"},
                )
                bob.host.popen(["python3", "-c", ECHO, str(_ECHO_PORT)])
                pairs.append((alice, bob))
            deployment.acquaint()
            deployment.start()
            roundTrip = _roundTrip(server, publicHost, runs)
            print(f"R = {roundTrip * 1000:.2f} ms (TCP connect between two public sites)")
            print(f"{'':40}        TCP     first echoed byte    (medians of {runs}, in R)")
            print(f"{'':40} connection   new link   one stream more")
            for (alice, bob), kinds in zip(pairs, _PAIRS, strict=True):
                times = _measure(alice, bob, runs)
                _show(f"punchd {' x '.join(kinds)}", [each / roundTrip for each in times])
            alice, bob = pairs[0]
            echoed = _rival(OpenSSH(deployment.folder), server, alice.host, bob.host, runs)
            _show("ssh -R, ssh -L through the server", [None, None, echoed / roundTrip])


def _show(what: str, times: Sequence[float | None]) -> None:
    shown = ["-" if each is None else f"{each:.2f}" for each in times]
    print(f"{what:40} {shown[0]:>10} {shown[1]:>10} {shown[2]:>17}")


def _times(host: Host, address: str, port: int, runs: int, pause: float) -> list[list[float]]:
    argv = ["python3", "-c", TIME_ECHO, address, str(port), str(runs), str(pause)]
    done = host.run(argv, timeout=runs * (5 + pause) + 20)
    return [json.loads(line) for line in done.stdout.splitlines()]


def _roundTrip(one: Host, other: Host, runs: int) -> float:
    times = _times(one, other.address, _ECHO_PORT, runs, 0.01)
    return statistics.median(connected for connected, _ in times)


def _measure(alice: PeerProcess, bob: PeerProcess, runs: int) -> list[float]:
    connects = [alice.ping(bob)["seconds"]["connected"] for _ in range(runs)]
    first = []
    for _ in range(max(1, runs // _ANEW)):
        alice.stop()
        alice.start()
        alice.awaitReady()
        # Whatever a peer does when it starts is done.
        time.sleep(1)
        [[_, echoed]] = _times(alice.host, "127.0.0.1", _FORWARD_PORT, 1, 0)
        first.append(echoed)
    more = [echoed for _, echoed in _times(alice.host, "127.0.0.1", _FORWARD_PORT, runs, 0.1)]
    return [statistics.median(each) for each in (connects, first, more)]


def _rival(ssh: OpenSSH, server: Host, alice: Host, bob: Host, runs: int) -> float:
    sessions: list[subprocess.Popen[bytes]] = [ssh.serve(server)]
    try:
        sessions.append(ssh.forward(bob, server.address, "-R", f"9000:127.0.0.1:{_ECHO_PORT}"))
        ssh.awaitForward(server, 9000)
        sessions.append(ssh.forward(alice, server.address, "-L", "9001:127.0.0.1:9000"))
        ssh.awaitForward(alice, 9001)
        times = _times(alice, "127.0.0.1", 9001, runs, 0.2)
    finally:
        for session in sessions:
            session.terminate()
    return statistics.median(echoed for _, echoed in times)


if __name__ == "__main__":
    main()
