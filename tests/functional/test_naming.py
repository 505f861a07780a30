"""
The DNS of a real C{twistd punchd-server}, over real sockets: what is sent to it may be anything.

That C{dig} and the C library are content with it is tested in the NAT lab, at the port where they
expect it.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.names import dns

from punchd.server.naming.responding import ANSWERS_AT_ONCE, ANSWERS_PER_SECOND
from punchd.server.naming.serving import MOST_STREAMS_PER_NETWORK, PATIENCE
from punchd.testing.daemons import program
from tests.functional.processes import LOOPBACK

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="reads Linux's /proc, and uses all of 127.0.0.0/8"
)

ZONE: Final = "peers.example.org"

SOON: Final = 5.0
"""Seconds within which a server that lives has answered."""

# What the rate for one source would keep from being answered comes from others.
SOURCES: Final = [f"127.0.{high}.{low}" for high in range(1, 9) for low in range(1, 251)]

MANY: Final = settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def ask(name: str = ZONE, kind: int = dns.SOA) -> bytes:
    message = dns.Message(id=7, recDes=1)
    message.addQuery(name, kind)
    return message.toStr()


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message


def read(answer: bytes) -> dns.Message:
    message = dns.Message()
    message.fromStr(answer)
    return message


@attrs.define
class Served:
    """
    A running server, and clients of it.
    """

    process: subprocess.Popen[bytes]
    log: Path
    udp: tuple[str, int]
    tcp: tuple[str, int]
    asked: int = 0

    def datagram(self) -> socket.socket:
        """
        From another source each time.
        """
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.asked += 1
        client.bind((SOURCES[self.asked % len(SOURCES)], 0))
        client.connect(self.udp)
        client.settimeout(SOON)
        return client

    def stream(self) -> socket.socket:
        self.asked += 1
        return socket.create_connection(
            self.tcp, SOON, source_address=(SOURCES[self.asked % len(SOURCES)], 0)
        )

    def answersAfter(self, packet: bytes) -> list[bytes]:
        """
        What comes back for a datagram, before the answer to a good question that follows it.
        """
        with self.datagram() as client:
            client.send(packet)
            client.send(ask()[2:].join([b"\xfe\xed", b""]))
            found = []
            while (answer := client.recv(4096))[:2] != b"\xfe\xed":
                found.append(answer)
            return found

    def isWell(self) -> None:
        """
        It answers, and has nothing to complain of itself.
        """
        with self.datagram() as client:
            client.send(ask())
            assert len(read(client.recv(4096)).answers) == 1
        with self.stream() as client:
            client.sendall(framed(ask()))
            assert len(read(heard(client, 1)[0]).answers) == 1
        log = self.log.read_text()
        assert "Traceback" not in log, log


def heard(client: socket.socket, count: int) -> list[bytes]:
    """
    So many messages of a stream, or those until its end.
    """
    found: list[bytes] = []
    with client.makefile("rb") as stream:
        while len(found) < count and (length := stream.read(2)):
            found.append(stream.read(int.from_bytes(length, "big")))
    return found


def isOver(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as writing:
            process = subprocess.Popen(
                [
                    *(sys.executable, program("twistd"), "-n", "--pidfile=", "punchd-server"),
                    *("--state", folder, "--host", "127.0.0.1", "--registry", "memory:"),
                    *("--master", LOOPBACK, "--assist", LOOPBACK, "--relay", "off"),
                    *("--zone", ZONE, "--dns", "udp:0:interface=127.0.0.1", "--dns", LOOPBACK),
                ],
                stdout=writing,
                stderr=subprocess.STDOUT,
            )
        try:
            patience = time.monotonic() + 30
            while "starting up" not in log.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < patience, log.read_text()
                time.sleep(0.05)
            ports = {
                what: ("127.0.0.1", int(number))
                for what, number in re.findall(r"(\w+) starting on (\d+)", log.read_text())
            }
            yield Served(process, log, ports["Datagrams"], ports["NamingGate"])
        finally:
            process.terminate()
            process.wait(30)


def test_bothWaysAnswer(served: Served) -> None:
    served.isWell()


@MANY
@given(st.binary(max_size=700))
def test_anyDatagramIsHarmless(served: Served, packet: bytes) -> None:
    for answer in served.answersAfter(packet):
        assert answer[:2] == packet[:2]
        assert len(answer) <= max(12, len(packet) + 100)


HEADERS = st.builds(
    struct.pack, st.just("!6H"), *[st.integers(0, 65535)] * 2, *[st.integers(0, 3)] * 4
)
NAMES = st.lists(st.binary(min_size=1, max_size=64), max_size=5).map(
    lambda labels: b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
)
OPTIONS = st.builds(
    lambda kind, data: struct.pack("!HH", kind, len(data)) + data,
    st.sampled_from([3, 8, 10, 12, 65001]),
    st.binary(max_size=45),
)
OPT = st.builds(
    lambda name, size, ttl, options: (
        name + struct.pack("!HHIH", 41, size, ttl, len(options)) + options
    ),
    st.just(b"\0") | NAMES,
    st.integers(0, 65535),
    st.integers(0, 2**32 - 1),
    st.lists(OPTIONS, max_size=3).map(b"".join),
)
MESSAGES = st.builds(
    lambda header, name, kind, rest: header + name + kind + b"".join(rest),
    HEADERS,
    NAMES | st.just(b"\5peers\7example\3org\0") | st.just(b"\xc0\x0c"),
    st.binary(min_size=4, max_size=4) | st.just(b"\0\1\0\1"),
    st.lists(OPT, max_size=2),
)


@MANY
@given(MESSAGES)
def test_whatLooksLikeAQuestionIsHarmless(served: Served, packet: bytes) -> None:
    for answer in served.answersAfter(packet):
        assert answer[:2] == packet[:2]
        assert len(answer) <= 512
        assert read(answer).answer


@MANY
@given(st.lists(st.binary(max_size=300) | MESSAGES.map(framed), max_size=4))
def test_anyStreamIsHarmless(served: Served, pieces: list[bytes]) -> None:
    with served.stream() as client:
        try:
            for piece in pieces:
                client.sendall(piece)
            client.shutdown(socket.SHUT_WR)
        except OSError:
            # Some nonsense ends the connection at once.
            return
        try:
            answers = heard(client, 100)
        except ConnectionError:
            return
        assert all(read(answer).answer for answer in answers)


def test_afterAllThatTheServerIsWell(served: Served) -> None:
    served.isWell()


def test_aQuestionMayComeByteByByte(served: Served) -> None:
    with served.stream() as client:
        for byte in framed(ask()):
            client.sendall(bytes([byte]))
            time.sleep(0.002)
        assert len(read(heard(client, 1)[0]).answers) == 1


def test_whoHasSaidAllGetsTheAnswer(served: Served) -> None:
    with served.stream() as client:
        client.sendall(framed(ask()) * 3)
        client.shutdown(socket.SHUT_WR)
        assert len(heard(client, 10)) == 3


@pytest.mark.slow
def test_slowClientsAreShownOutAndKeepNobodyOut(served: Served) -> None:
    source = ("127.0.99.1", 0)
    slow = [
        socket.create_connection(served.tcp, SOON, source_address=source)
        for _ in range(MOST_STREAMS_PER_NETWORK)
    ]
    try:
        began = time.monotonic()
        for client in slow:
            client.sendall(framed(ask())[:5])
        with socket.create_connection(served.tcp, SOON, source_address=source) as late:
            assert isOver(late)
        served.isWell()
        for client in slow:
            client.settimeout(PATIENCE + SOON)
            assert isOver(client)
        assert PATIENCE - 1 < time.monotonic() - began < PATIENCE + SOON
        with socket.create_connection(served.tcp, SOON, source_address=source) as again:
            again.sendall(framed(ask()))
            assert len(heard(again, 1)) == 1
    finally:
        for client in slow:
            client.close()


def resident(process: subprocess.Popen[bytes]) -> int:
    """
    Its own memory, in KiB.
    """
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"RssAnon:\s+(\d+)", status)
    assert found is not None
    return int(found[1])


def test_aFloodFromManySourcesIsBounded(served: Served) -> None:
    """
    As if somebody forged 2,000 of them: no answer is longer than 512 bytes, the server's memory
    does not grow for long, and others are served meanwhile.
    """
    served.isWell()
    before, sent, waits = resident(served.process), 0, []
    question = ask("nobody." + ZONE, dns.ALL_RECORDS)
    for source in SOURCES:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.bind((source, 0))
            for _ in range(10):
                client.sendto(question, served.udp)
                sent += 1
        if sent % 1000 == 0:
            began = time.monotonic()
            with served.stream() as other:
                other.sendall(framed(ask()))
                assert len(heard(other, 1)) == 1
            waits.append(time.monotonic() - began)
    assert sent == 20_000
    assert max(waits) < 1.0
    served.isWell()
    assert resident(served.process) - before < 8 * 1024


def test_oneSourceIsAnsweredOnlySoOften(served: Served) -> None:
    """
    What comes beyond that is an invitation to TCP, or nothing.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind(("127.0.98.1", 0))
        client.connect(served.udp)
        whole = invited = 0
        began = time.monotonic()
        for _ in range(60):
            for _ in range(20):
                client.send(ask())
            client.settimeout(0.02)
            with contextlib.suppress(TimeoutError):
                while True:
                    answer = client.recv(4096)
                    assert len(answer) == len(ask()) or not read(answer).trunc
                    whole += bool(read(answer).answers)
                    invited += read(answer).trunc
    seconds = time.monotonic() - began
    assert 150 <= whole <= ANSWERS_AT_ONCE + ANSWERS_PER_SECOND * seconds
    assert invited > 100
    with socket.create_connection(served.tcp, SOON, source_address=("127.0.98.1", 0)) as client:
        client.sendall(framed(ask()))
        assert len(heard(client, 1)) == 1
