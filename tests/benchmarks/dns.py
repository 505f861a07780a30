"""
What the DNS costs: CPU for an answer, memory of an idle server, and look-ups among many names.

Run it with C{python -m tests.benchmarks.dns [ANSWERS]}: a real C{punchd-server} on loopback, a real
C{punchd-peer} that has a name there, and questions from a thousand addresses, as one alone is
answered only so often. The look-ups among many names are timed inside one process, from a
question's bytes to the answer's, with as many peers logged in as there are names.
"""

from __future__ import annotations

import os
import re
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.names import dns

from punchd.server.limits import Complaints
from punchd.server.naming.starting import Naming
from punchd.server.sessions import Population, Session
from punchd.testing.daemons import program
from punchd.values.addresses import makeAddress
from punchd.values.naming import Listing
from punchd.values.parties import Offer
from punchd.values.peers import PeerID

_ZONE = "peers.example.org"
_LOOPBACK = "tcp:0:interface=127.0.0.1"

#: Addresses that the questions come from, and runs of which the median counts.
_SOURCES = 1000
_RUNS = 5


def main() -> None:
    """
    Measure, and print the figures.
    """
    answers = int(sys.argv[1]) if len(sys.argv) > 1 else 60_000
    _measureAnswers(answers)
    _measureMemory()
    _measureNames()


@contextmanager
def _server(folder: str, *options: str) -> Iterator[tuple[int, str]]:
    """
    A server that has started: its process, and what it has said.
    """
    log = Path(folder) / "log"
    command: list[str | Path] = [
        *(program("twistd"), "-n", "--pidfile=", "punchd-server", "--state", folder),
        *("--host", "127.0.0.1", "--registry", "memory:", "--relay", "off"),
        *("--master", _LOOPBACK, "--assist", _LOOPBACK, *options),
    ]
    with log.open("wb") as writing:
        process = subprocess.Popen(command, stdout=writing, stderr=writing)
    try:
        while "starting up" not in log.read_text():
            time.sleep(0.1)
        yield process.pid, log.read_text()
    finally:
        process.kill()
        process.wait()


_DNS = ("--zone", _ZONE, "--dns", "udp:0:interface=127.0.0.1", "--dns", _LOOPBACK)


def _measureAnswers(count: int) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryDirectory() as home,
        _server(folder, *_DNS) as (pid, said),
    ):
        found = re.search(r"Datagrams starting on (\d+)", said)
        if found is None:
            raise RuntimeError(said)
        join = (Path(folder) / "join").read_text().strip()
        peer = subprocess.Popen(
            [
                *(program("twistd"), "-n", "--pidfile=", "punchd-peer", "--state", home),
                *("--server", join, "--name", "bob", "--publish-address"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            server = ("127.0.0.1", int(found[1]))
            while not _ask(server, "bob"):
                time.sleep(0.1)
            # What there is to find out about its NAT has been found out.
            time.sleep(3)
            for what, name, kind in (
                ("A", "bob", dns.A),
                ("TXT", "bob", dns.TXT),
                ("NXDOMAIN", "nobody", dns.A),
            ):
                before, began = _cpu(pid), time.monotonic()
                done = _flood(server, _question(name, kind), count // 3)
                cpu, wall = _cpu(pid) - before, time.monotonic() - began
                print(
                    f"{what}: {done / cpu:,.0f} answers per second of the server's CPU "
                    f"({done:,} in {wall:.1f} s)"
                )
        finally:
            peer.terminate()
            peer.wait()


def _question(name: str, kind: int = dns.A) -> bytes:
    message = dns.Message(id=7, recDes=1)
    message.addQuery(f"{name}.{_ZONE}", kind)
    return message.toStr()


def _ask(server: tuple[str, int], name: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(1)
        client.sendto(_question(name), server)
        message = dns.Message()
        message.fromStr(client.recv(512))
        return bool(message.answers)


def _flood(server: tuple[str, int], question: bytes, count: int) -> int:
    """
    Ask so often, with few questions under way at a time; how many whole answers came.
    """
    selector = selectors.DefaultSelector()
    clients = []
    for number in range(_SOURCES):
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.bind((f"127.{1 + number // 250}.0.{1 + number % 250}", 0))
        client.connect(server)
        clients.append(client)
        selector.register(client, selectors.EVENT_READ)
    done = asked = 0
    try:
        while done < count:
            for _ in range(min(64, count - asked)):
                clients[asked % _SOURCES].send(question)
                asked += 1
            while done < asked:
                ready = selector.select(1)
                if not ready:
                    raise RuntimeError(f"{asked - done} answers are missing")
                for key, _ in ready:
                    handle: Any = key.fileobj
                    answer = handle.recv(512)
                    if answer[2] & 2:
                        raise RuntimeError("asked too often")
                    done += 1
        return done
    finally:
        selector.close()
        for client in clients:
            client.close()


def _cpu(pid: int) -> float:
    """
    Seconds of CPU that a process has used.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


#: What a server without it would not load.
_LOADED = """
import re
import punchd.identity.tls, punchd.server.gate, punchd.server.sessions, punchd.wire.commands
import twisted.internet.reactor
def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1])
before = resident()
import punchd.server.naming.starting
print(resident() - before)
"""


def _measureMemory() -> None:
    loading = [int(subprocess.check_output([sys.executable, "-c", _LOADED])) for _ in range(_RUNS)]
    figures: dict[bool, list[int]] = {False: [], True: []}
    for _ in range(_RUNS):
        for hasZone in (False, True):
            with (
                tempfile.TemporaryDirectory() as folder,
                _server(folder, *(_DNS if hasZone else ())) as (pid, _),
            ):
                time.sleep(1)
                figures[hasZone].append(_memory(pid))
    code = statistics.median(loading) / 1024
    without, with_ = (statistics.median(figures[hasZone]) / 1024 for hasZone in (False, True))
    print(
        f"an idle server: {without:.1f} MiB, and {with_:.1f} MiB with the DNS: "
        f"{with_ - without:.2f} MiB more, and {code:.2f} MiB of code that is loaded anyhow"
    )


def _memory(pid: int) -> int:
    """
    All resident memory, in KiB: what is loaded from files counts, too.
    """
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    if found is None:
        raise RuntimeError(f"process {pid} is gone")
    return int(found[1])


class _Line:
    """
    A connection to nobody.
    """

    def callRemote(self, commandType: object, **arguments: object) -> None:
        """
        Nobody hears it.
        """

    def loggedIn(self) -> None:
        """
        Nobody cares.
        """

    def localHost(self) -> str:
        """
        Some address.
        """
        return "127.0.0.1"

    def close(self, reason: str) -> None:
        """
        There is nothing to be closed.
        """


def _measureNames() -> None:
    figures = {}
    for count in (10, 10_000, 100_000):
        clock, population = Clock(), Population()
        gate = Naming(_ZONE, ()).makeGate(
            clock=clock,
            entropy=os.urandom,
            population=population,
            complaints=Complaints(Logger()),
            hosts=["192.0.2.1"],
        )
        for number in range(count):
            peerID = PeerID(number.to_bytes(32, "big"))
            where = makeAddress(f"198.51.{number >> 8 & 255}.{number & 255}", 5000)
            session = Session(peerID, f"peer{number}", where, _Line(), Offer(), frozenset(), 0.0)
            session.listing = Listing(hasAddress=True)
            population.arrive(session)
        questions = [_question(f"peer{number * 7919 % count}") for number in range(1000)]
        source = makeAddress("127.0.0.1", 5353)
        runs = []
        for _ in range(_RUNS):
            began = time.process_time()
            for number, question in enumerate(questions * 4):
                if number % 100 == 0:
                    clock.advance(1)
                gate.responder.toDatagram(question, source)
            runs.append((time.process_time() - began) / 4000)
        figures[count] = statistics.median(runs)
    print(
        "from question to answer: "
        + ", ".join(f"{count:,} names {took * 1e6:.1f} µs" for count, took in figures.items())
    )


if __name__ == "__main__":
    main()
