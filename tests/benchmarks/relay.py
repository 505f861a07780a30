"""
What relaying costs: throughput, processor time and memory, against haproxy.

Run it with C{python -m tests.benchmarks.relay [MEGABYTES] [RUNS] [PAIRS]}, on loopback. Each run
sends that many MB from one process to another, through each relay in turn; the processor time is
the relay's own. Then there are small requests beside such a transfer, and at last PAIRS relayed
paths are opened, and nothing more is said on them.

haproxy, in TCP mode with C{option splice-auto}, is compared with if it is installed (Debian:
C{apt-get install haproxy}).
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from punchd.observers import LoggingObserver
from punchd.server.limits import Complaints, Strangers
from punchd.server.relay import RelayGate
from punchd.server.relaycarrying import Carrying
from punchd.server.relaylimits import Accounts, Bound, RelayLimits
from punchd.server.relaypairs import Pairs, Room
from punchd.server.relaypipes import Pipes
from punchd.server.relaytokens import RelayTokens
from punchd.server.sessions import Population, Session
from punchd.values.addresses import makeAddress
from punchd.values.parties import Offer
from punchd.values.peers import PeerID
from punchd.wire.relaying import ANSWER_HEAD_LENGTH, Opening, packAcceptance

_TICKS = os.sysconf("SC_CLK_TCK")

#: How the relay's bytes get from socket to socket: what punchd does, and what was tried.
VARIANTS = {
    "splice": "punchd",
    "copying": "punchd without splice",
    "stock": "Twisted's transports",
}

#: Connects to the port in its argument, says what stands on standard input, leaves out the answer,
#: and takes as many bytes as it is told; prints their number and the seconds from the first to the
#: last as JSON.
_SINK = """
import json, socket, sys, time
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 30)
connection.sendall(bytes.fromhex(sys.stdin.readline()))
buffer, count, began, skip = bytearray(1 << 20), 0, None, int(sys.argv[2])
while skip:
    skip -= len(connection.recv(skip))
while count < int(sys.argv[3]):
    count += connection.recv_into(buffer)
    began = began or time.monotonic()
print(json.dumps([count, time.monotonic() - began]))
"""

#: The same for a port that is listened on.
_LISTENING_SINK = """
import json, socket, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=8)
print(flush=True)
buffer = bytearray(1 << 20)
while True:
    connection, _ = listener.accept()
    count, began, read = 0, None, 1
    while count < int(sys.argv[2]) and read:
        read = connection.recv_into(buffer)
        began = began or time.monotonic()
        count += read
    connection.close()
    if count:
        print(json.dumps([count, time.monotonic() - began]), flush=True)
"""

#: Connects likewise, and sends that many bytes.
_SOURCE = """
import socket, sys
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 30)
connection.sendall(bytes.fromhex(sys.stdin.readline()))
skip = int(sys.argv[2])
while skip:
    skip -= len(connection.recv(skip))
piece, left = memoryview(bytes(1 << 20)), int(sys.argv[3])
while left > 0:
    left -= connection.send(piece[:left])
try:
    connection.recv(1)
except ConnectionError:
    pass
"""

_HAPROXY = """
global
    maxconn 100
    nbthread 1
defaults
    mode tcp
    option splice-auto
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen relay
    bind 127.0.0.1:{port}
    server sink 127.0.0.1:{sink}
"""


class _Stock:
    """
    Instead of L{Carrying}: bytes pass through Twisted's transports as they are.
    """

    def __init__(
        self,
        one: Any,
        other: Any,
        greeting: bytes,
        pipes: Pipes,
        meter: Any,
        finished: Callable[[], None],
    ) -> None:
        self.count = 0
        for source, drain in ((one, other), (other, one)):
            source.registerProducer(drain, True)
            source.protocol.dataReceived = drain.write
            source.write(greeting)

    def hold(self) -> None:
        raise AssertionError("nothing is limited")

    resume = hold

    def stop(self) -> None:
        """
        Nothing is to be undone.
        """


def serve(variant: str) -> None:
    """
    Be a relay: print the port, then two openings for each line on standard input.
    """
    from twisted.internet import reactor as anyReactor
    from twisted.internet.stdio import StandardIO
    from twisted.logger import Logger
    from twisted.protocols.basic import LineReceiver

    reactor: Any = anyReactor
    many = Bound(None, None)
    tokens = RelayTokens(reactor, os.urandom)
    carry: Any = _Stock if variant == "stock" else Carrying
    room = Room(
        reactor,
        Population(),
        LoggingObserver(),
        Accounts(reactor, RelayLimits(many, many, many, None)),
        Pipes(0 if variant == "copying" else 64),
        carry,
    )
    complaints = Complaints(Logger())
    strangers = Strangers(reactor, 10**6, 10**6, 10.0**6, 10.0**6)
    gate = RelayGate(
        clock=reactor, pairs=Pairs(room, tokens), strangers=strangers, complaints=complaints
    )
    here = makeAddress("127.0.0.1", 1)
    line: Any = None
    peers = [
        Session(PeerID(bytes([number]) * 32), name, here, line, Offer(), frozenset(), 0.0)
        for number, name in enumerate(("alice", "bob"))
    ]

    class Asked(LineReceiver):
        delimiter = b"\n"

        def connectionMade(self) -> None:
            self.sendLine(str(port.getHost().port).encode())

        def lineReceived(self, line: bytes) -> None:
            issued = tokens.issue(os.urandom(16), *peers)
            self.sendLine(b" ".join(Opening(token).pack().hex().encode() for token in issued))

        def connectionLost(self, reason: object = None) -> None:
            reactor.stop()

    port = reactor.listenTCP(0, gate, interface="127.0.0.1", backlog=1024)
    StandardIO(Asked())
    reactor.run()


class Relay:
    """
    A process of one kind.
    """

    def __init__(self, variant: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", __spec__.name, "serve", variant],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = int(self._read())

    @property
    def pid(self) -> int:
        return self.process.pid

    def openings(self) -> list[str]:
        """
        What the two ends of one path say.
        """
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._read().split()

    def _read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def run(self, count: int) -> tuple[float, float]:
        """
        Send so much; bytes a second, and processor seconds per GB.
        """
        before = _cpu(self.pid)
        one, two = self.openings()
        skip = str(ANSWER_HEAD_LENGTH)
        sink = _start(_SINK, str(self.port), skip, str(count))
        source = _start(_SOURCE, str(self.port), skip, str(count))
        for process, said in ((sink, one), (source, two)):
            assert process.stdin is not None
            process.stdin.write(said + "\n")
            process.stdin.flush()
        assert sink.stdout is not None
        _, seconds = json.loads(sink.stdout.readline())
        for process in (sink, source):
            process.wait()
        return count / seconds, (_cpu(self.pid) - before) / (count / 1e9)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


class Haproxy:
    """
    A process of haproxy, and a sink behind it.
    """

    def __init__(self, folder: Path, count: int) -> None:
        port, sink = _freePorts(2)
        self.port = port
        self.sink = _start(_LISTENING_SINK, str(sink), str(count))
        assert self.sink.stdout is not None
        self.sink.stdout.readline()
        config = folder / "haproxy.cfg"
        config.write_text(_HAPROXY.format(port=port, sink=sink))
        self.process = subprocess.Popen(["haproxy", "-db", "-f", str(config)])
        self.pid = self.process.pid
        _await(port)

    def run(self, count: int) -> tuple[float, float]:
        """
        As L{Relay.run}.
        """
        before = _cpu(self.pid)
        source = _start(_SOURCE, str(self.port), "0", str(count))
        assert source.stdin is not None
        source.stdin.write("\n")
        source.stdin.flush()
        assert self.sink.stdout is not None
        _, seconds = json.loads(self.sink.stdout.readline())
        source.wait()
        return count / seconds, (_cpu(self.pid) - before) / (count / 1e9)

    def close(self) -> None:
        for process in (self.process, self.sink):
            process.kill()
            process.wait()


def _start(program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _freePorts(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def _await(port: int) -> None:
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("haproxy does not listen")


def _cpu(pid: int) -> float:
    # utime, stime: fields 14 and 15 of proc(5), counted from the third.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _memory(pid: int) -> int:
    """
    Anonymous resident memory, in KiB.
    """
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1])
    raise RuntimeError(f"process {pid} is gone")


def idle(pairs: int) -> str:
    """
    Open so many paths, let a MB pass through each, and look at the relay's memory.
    """
    relay = Relay("splice")
    ends: list[socket.socket] = []
    try:
        _path(relay, ends)
        time.sleep(1)
        before = _memory(relay.pid)
        for _ in range(pairs):
            one, two = _path(relay, ends)
            for end, other in ((one, two), (two, one)):
                end.sendall(bytes(65536))
                left = 65536
                while left:
                    left -= len(other.recv(left))
        time.sleep(3)
        after = _memory(relay.pid)
        pipes = sum("pipe:" in os.readlink(one) for one in Path(f"/proc/{relay.pid}/fd").iterdir())
    finally:
        for end in ends:
            end.close()
        relay.close()
    return (
        f"{pairs} idle paths, 128 KiB through each: {(after - before) / 1024:.1f} MiB, "
        f"{(after - before) / pairs:.1f} KiB each; {pipes} ends of pipes are open"
    )


def besides(count: int) -> str:
    """
    Requests of 64 bytes on one path, alone and beside another one that carries all it can.
    """
    relay = Relay("splice")
    ends: list[socket.socket] = []
    try:
        one, two = _path(relay, ends)
        for end in (one, two):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        alone = _roundTrips(one, two)
        loading = threading.Thread(target=relay.run, args=(count,))
        loading.start()
        time.sleep(0.5)
        loaded = []
        while loading.is_alive():
            loaded += _roundTrips(one, two, 100)
        loading.join()
    finally:
        for end in ends:
            end.close()
        relay.close()
    told = (
        "/".join(f"{1e6 * statistics.quantiles(times, n=100)[at - 1]:.0f}" for at in (50, 99))
        for times in (alone, loaded)
    )
    return "64 bytes there and back, p50/p99: {} us; beside a busy path {} us".format(*told)


def _roundTrips(one: socket.socket, two: socket.socket, count: int = 2000) -> list[float]:
    times = []
    for _ in range(count):
        began = time.perf_counter()
        for end, other in ((one, two), (two, one)):
            end.sendall(bytes(64))
            left = 64
            while left:
                left -= len(other.recv(left))
        times.append(time.perf_counter() - began)
    return times


def _path(relay: Relay, ends: list[socket.socket]) -> list[socket.socket]:
    found = []
    for opening in relay.openings():
        end = socket.create_connection(("127.0.0.1", relay.port), 30)
        end.sendall(bytes.fromhex(opening))
        found.append(end)
    for end in found:
        assert end.recv(ANSWER_HEAD_LENGTH) == packAcceptance()
    ends.extend(found)
    return found


def main() -> None:
    """
    Measure, and print the table.
    """
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2])
        return
    given = [int(argument) for argument in sys.argv[1:]]
    megabytes, runs, pairs = (*given, *(4000, 5, 2000)[len(given) :])
    count = megabytes * 1_000_000
    with tempfile.TemporaryDirectory() as folder, ExitStack() as closing:
        relays: dict[str, Relay | Haproxy] = {}
        if shutil.which("haproxy") is None:
            print("not installed, so left out: haproxy", file=sys.stderr)
        else:
            relays["haproxy, splice-auto"] = Haproxy(Path(folder), count)
        for variant, name in VARIANTS.items():
            relays[name] = Relay(variant)
        for relay in relays.values():
            closing.callback(relay.close)
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in relays}
        for _ in range(runs):
            for name, relay in relays.items():
                found[name].append(relay.run(count))
    print(f"{'':24}  MB/s  CPU seconds per GB   of haproxy's: speed, CPU")
    base = found.get("haproxy, splice-auto")
    for name, figures in found.items():
        speed, cost = (statistics.median(one) for one in zip(*figures, strict=True))
        quotients = "-, -"
        if base is not None:
            of = list(zip(figures, base, strict=True))
            faster = statistics.median(ours[0] / theirs[0] for ours, theirs in of)
            dearer = statistics.median(ours[1] / theirs[1] for ours, theirs in of if theirs[1])
            quotients = f"{faster:.2f}, {dearer:.2f}"
        print(f"{name:24} {speed / 1e6:5.0f} {cost:19.3f} {quotients:>26}")
    print(f"medians of {runs} runs of {megabytes} MB")
    print(besides(count))
    print(idle(pairs))


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    main()
