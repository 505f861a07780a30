"""
The lab itself: distances, links, neighbours, and leaving nothing behind.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from punchd.testing.natlab import NatLab
from tests.natlab.agents import Agent

pytestmark = [pytest.mark.natlab, pytest.mark.timed]

LATE = 0.003
"""How much longer than planned a round trip may take."""


def namespaces() -> list[str]:
    """
    The namespaces of this process's labs.
    """
    shown = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True)
    names = [line.split()[0] for line in shown.stdout.splitlines()]
    return [name for name in names if name.startswith(f"natlab-{os.getpid()}-")]


@pytest.fixture
def lab() -> Iterator[NatLab]:
    with NatLab(delay=0.02) as made:
        yield made


def firstLine(process: subprocess.Popen[Any]) -> Any:
    """
    The first thing that a program says.
    """
    assert process.stdout is not None
    return process.stdout.readline()


def running(pid: int) -> bool:
    """
    Whether a process lives, not just waits to be collected by its parent.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def serving(agent: Agent) -> tuple[str, int]:
    """
    An address on the agent's host that answers.
    """
    agent.serve(7000)
    return agent.host.address, 7000


def roundTrip(dialler: Agent, target: tuple[str, int]) -> float:
    """
    The time to connect, without what a busy machine adds: the kernel may still be clearing away the
    namespaces of the tests before.
    """
    return min(dialler.timed(target) for _ in range(9))


def test_distance(lab: NatLab) -> None:
    """
    A connection takes one round trip: twice the lab's delay.
    """
    one, other = Agent(lab.addPublic("one")), Agent(lab.addPublic("other"))
    assert 0.04 <= roundTrip(one, serving(other)) <= 0.04 + LATE


def test_unequalDistances(lab: NatLab) -> None:
    """
    A site with a delay of its own is as far as both sites' delays together.
    """
    near = Agent(lab.addPublic("near", delay=0.001))
    usual = Agent(lab.addHost("usual", "port-restricted"))
    far = Agent(lab.addHost("far", "firewall", delay=0.05))
    target = serving(near)
    assert 0.022 <= roundTrip(usual, target) <= 0.022 + LATE
    assert 0.102 <= roundTrip(far, target) <= 0.102 + LATE


def test_noDistance() -> None:
    """
    Without a delay nothing stands between two sites.
    """
    with NatLab(delay=0) as lab:
        one, other = Agent(lab.addPublic("one")), Agent(lab.addPublic("other"))
        assert roundTrip(one, serving(other)) < 0.001


def test_bytesArriveWhole() -> None:
    """
    Data that crosses NATs, distance and jitter is what was sent, and the link's
    counters have seen it.
    """
    size = 5_000_000
    script = (
        "import socket, sys, hashlib; s = socket.create_connection((sys.argv[1], 7300));"
        f"s.sendall(bytes(range(250)) * {size // 250}); s.shutdown(1); print(s.recv(99).decode())"
    )
    answering = (
        "import socket, hashlib; l = socket.create_server(('', 7300)); print(flush=True);"
        "s, _ = l.accept(); d = hashlib.sha256();\n"
        "while b := s.recv(65536): d.update(b)\n"
        "s.sendall(d.hexdigest().encode()); s.close()"
    )
    with NatLab(delay=0.002, jitter=0.002) as lab:
        sink = lab.addPublic("sink")
        source = lab.addHost("source", "carrier")
        bystander = lab.addHost("bystander", "shifted")
        listening = sink.popen([sys.executable, "-c", answering], stdout=subprocess.PIPE)
        firstLine(listening)
        before = sink.linkBytes()
        done = source.run([sys.executable, "-c", script, sink.address], timeout=20)
        expected = hashlib.sha256(bytes(range(250)) * (size // 250)).hexdigest()
        assert done.stdout.strip() == expected
        assert size <= sink.linkBytes() - before <= 1.1 * size
        assert bystander.linkBytes() < 10_000


def test_neighbours(lab: NatLab) -> None:
    """
    Hosts on one LAN reach one another by its addresses, and others share
    nothing with them but the outside address.
    """
    server = Agent(lab.addPublic("server"))
    first = Agent(lab.addHost("first", "port-restricted"))
    second = Agent(lab.addNeighbour("second", first.host))
    target = serving(server)
    assert first.host.address != second.host.address
    assert first.host.address.rpartition(".")[0] == second.host.address.rpartition(".")[0]
    seen = [each.observe(0, [target])[0][0] for each in (first, second)]
    assert seen == [first.host.outside] * 2
    assert roundTrip(first, serving(second)) < LATE


def test_noHairpin(lab: NatLab) -> None:
    """
    The router does not lead its hosts back in at its outside address.
    """
    server = Agent(lab.addPublic("server"))
    first = Agent(lab.addHost("first", "full-cone"))
    second = Agent(lab.addNeighbour("second", first.host))
    (mapped,) = first.observe(40000, [serving(server)])
    first.serve(40000)
    assert second.dial(0, mapped, 0.3) != "connected"


def test_overlappingLans(lab: NatLab) -> None:
    """
    Two sites may use the same private addresses.
    """
    server = Agent(lab.addPublic("server"))
    target = serving(server)
    for name in ("one", "other"):
        agent = Agent(lab.addHost(name, "port-restricted", lan="192.168.1"))
        assert agent.host.address == "192.168.1.10"
        assert agent.observe(0, [target])[0][0] == agent.host.outside


def test_severalPublicAddresses(lab: NatLab) -> None:
    """
    A server may have a second address, as RFC 5780 wants it.
    """
    server = Agent(lab.addPublic("server", addresses=2))
    alice = Agent(lab.addHost("alice", "port-restricted"))
    server.serve(7000)
    assert len(alice.observe(0, [(each, 7000) for each in server.host.addresses])) == 2


@pytest.mark.parametrize("kind", ["public", "firewall", "port-restricted"])
def test_cutLink(lab: NatLab, kind: str) -> None:
    """
    A cut link swallows everything in silence until it is restored.
    """
    server = Agent(lab.addPublic("server"))
    alice = Agent(lab.addHost("alice", kind))
    target = serving(server)
    lab.cutLink(alice.host)
    assert alice.dial(0, target, 0.2) == "timeout"
    assert server.dial(0, (alice.host.outside, 7000), 0.2) == "timeout"
    lab.restoreLink(alice.host)
    assert alice.dial(0, target, 0.5) == "connected"


def test_nothingIsLeft() -> None:
    """
    After an exception neither namespaces nor processes of the lab exist, be
    they in a session of their own.
    """
    with suppress(ZeroDivisionError), NatLab() as lab:
        host = lab.addHost("host", "carrier")
        argv = ["sh", "-c", "setsid sleep 1000 & echo $!; wait"]
        process = host.popen(argv, stdout=subprocess.PIPE)
        strayed = int(firstLine(process))
        raise ZeroDivisionError
    assert namespaces() == []
    assert process.returncode is not None
    assert not running(strayed)


def test_deadProgramsDoNotKeepTheLab() -> None:
    """
    Nor does what was written to a program that did not live to read it.
    """
    with NatLab() as lab:
        process = lab.addPublic("host").popen(["true"], stdin=subprocess.PIPE)
        process.wait()
        assert process.stdin is not None
        process.stdin.write(b"unread")
    assert namespaces() == []


def test_failedStartLeavesNothing() -> None:
    """
    A lab that the kernel refuses to finish is removed.
    """
    with pytest.raises(ValueError, match="no such number"):
        _ = NatLab(jitter=_Unprintable())
    assert namespaces() == []


class _Unprintable(float):
    """
    A jitter that cannot be told to the program which applies it.
    """

    def __new__(cls) -> _Unprintable:
        return super().__new__(cls, 0.001)

    def __str__(self) -> str:
        raise ValueError("no such number")


def test_manyLabs(lab: NatLab) -> None:
    """
    Labs with the same addresses do not see one another.
    """
    with NatLab(delay=0.02) as other:
        here = Agent(lab.addPublic("here"))
        there = Agent(other.addPublic("there"))
        assert here.host.address == there.host.address
        target = serving(here)
        assert there.dial(0, target, 0.2) == "ECONNREFUSED"
        assert Agent(other.addHost("alice", "random")).dial(0, target, 0.2) == "ECONNREFUSED"
        assert Agent(lab.addHost("alice", "random")).dial(0, target, 0.2) == "connected"


def test_staleLabIsSwept() -> None:
    """
    What a killed process left goes when the next lab is made.
    """
    script = (
        "import os, signal; from punchd.testing.natlab import NatLab; lab = NatLab();"
        "lab.addPublic('host').popen(['sleep', '1000']); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.Popen([sys.executable, "-c", script])
    killed.wait()
    left = f"natlab-{killed.pid}-"
    assert any(name.startswith(left) for name in os.listdir("/run/netns"))
    with NatLab():
        assert not any(name.startswith(left) for name in os.listdir("/run/netns"))


def test_runTimesOut(lab: NatLab) -> None:
    """
    A program that takes too long is ended with its children.
    """
    host = lab.addPublic("host")
    began = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        host.run(["sh", "-c", "sleep 1000; true"], timeout=0.1)
    assert time.monotonic() - began < 2.0


def test_runTellsWhatWentWrong(lab: NatLab) -> None:
    """
    A failed program's complaint is in the error.
    """
    host = lab.addPublic("host")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        host.run(["sh", "-c", "echo alas >&2; exit 3"])
    assert caught.value.returncode == 3
    assert caught.value.__notes__ == ["alas\n"]
    assert host.run(["cat"], input="text").stdout == "text"


@pytest.mark.parametrize("name", ["core", "Äpfel", "", "a b"])
def test_badNames(lab: NatLab, name: str) -> None:
    """
    Names are also those of namespaces, and must be fit for it.
    """
    with pytest.raises(ValueError, match="is taken"):
        lab.addPublic(name)
