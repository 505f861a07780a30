"""
What punchd is for: OpenSSH to a machine behind a NAT, in all the ways in which people use it.
"""

from __future__ import annotations

import hashlib
import random
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import attrs
import pytest

from punchd.testing.daemons import program
from punchd.testing.deployment import Deployment, PeerProcess
from punchd.testing.natlab import NatLab
from tests.natlab.sshd import SSHServer

pytestmark = pytest.mark.waiting

LARGE: Final = 200 * 1000 * 1000
"""Bytes of a large file."""

AT_SERVER: Final = 64_000
"""Bytes on the server's link that introductions and pings may cost meanwhile."""

FORWARDED: Final = 2222

# Reads until its input ends, and answers only then.
CHECKSUM: Final = """
import hashlib, socketserver
class Checksum(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(hashlib.sha256(self.rfile.read()).hexdigest().encode())
socketserver.ThreadingTCPServer.allow_reuse_address = True
with socketserver.ThreadingTCPServer(("127.0.0.1", 2300), Checksum) as server:
    print(flush=True)
    server.serve_forever()
"""


@attrs.frozen
class World:
    """
    Alice and Bob behind NATs of their own, and Bob's SSH server.

    @ivar folder: for files.
    """

    lab: NatLab
    deployment: Deployment
    alice: PeerProcess
    bob: PeerProcess
    sshd: SSHServer
    folder: Path

    def way(self, name: str) -> list[str]:
        """
        The options by which C{ssh} goes one of the ways that there are.
        """
        if name == "forward":
            return self.sshd.options(Hostname="127.0.0.1", Port=str(FORWARDED))
        connect = [program("punchd"), "connect", "--state", self.alice.state, "bob/ssh"]
        return self.sshd.options(ProxyCommand=shlex.join(map(str, connect)))

    def atAlice(self, *argv: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
        """
        Run a program on Alice's machine.
        """
        return self.alice.host.run(argv, check=False, timeout=60.0, input=input)

    def ssh(
        self, command: str, way: str = "forward", input: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """
        Run a command on Bob's machine.
        """
        return self.atAlice("ssh", *self.way(way), "bob", command, input=input)

    def atServer(self) -> int:
        """
        Bytes that have crossed the server's link.
        """
        return self.deployment.server.host.linkBytes()


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with NatLab(delay=0.002) as lab, Deployment(lab.addPublic("server")) as deployment:
        alice = deployment.addPeer(
            lab.addHost("alice", "port-restricted"),
            forwards={str(FORWARDED): "bob/ssh"},
        )
        bob = deployment.addPeer(
            lab.addHost("bob", "shifted"),
            exposures={"ssh": "tcp:127.0.0.1:2200", "checksum": "tcp:127.0.0.1:2300"},
        )
        for one, other in ((alice, bob), (bob, alice)):
            # As people do it.
            shown = one.command("id").stdout.strip()
            other.command("trust", one.name, shown)
        sshd = SSHServer(bob.host, deployment.folder / "ssh")
        checksum = bob.host.popen([sys.executable, "-c", CHECKSUM], stdout=subprocess.PIPE)
        assert checksum.stdout is not None
        checksum.stdout.readline()
        deployment.start()
        files = deployment.folder / "files"
        files.mkdir()
        yield World(lab, deployment, alice, bob, sshd, files)


@pytest.fixture(scope="module")
def large(world: World) -> Path:
    """
    A large file that nothing can compress.
    """
    path = world.folder / "large"
    path.write_bytes(random.Random(1).randbytes(LARGE))
    return path


def digest(path: Path) -> str:
    """
    The checksum of a file.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


WAYS = pytest.mark.parametrize("way", ["forward", "ProxyCommand"])


@WAYS
def test_commandsOutput(world: World, way: str) -> None:
    done = world.ssh("echo out; echo err >&2", way)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


@WAYS
def test_commandsExitStatus(world: World, way: str) -> None:
    assert world.ssh("exit 7", way).returncode == 7


@WAYS
def test_inputEndsInOrder(world: World, way: str) -> None:
    """
    What goes in comes out, and its end ends the command.
    """
    text = "".join(f"line {number}\n" for number in range(100_000))
    assert world.ssh("cat", way, input=text).stdout == text


@WAYS
def test_largeCopy(world: World, large: Path, way: str) -> None:
    """
    200 MB arrive as they were.
    """
    target = world.folder / f"copy-{way}"
    done = world.atAlice("scp", "-q", *world.way(way), str(large), f"bob:{target}")
    assert (done.returncode, done.stderr) == (0, "")
    assert digest(target) == digest(large)
    target.unlink()


def test_theServerCarriesNothing(world: World, large: Path) -> None:
    """
    While 200 MB pass from peer to peer, the server's link is as good as idle.
    """
    target = world.folder / "copy-past-server"
    before = world.atServer()
    done = world.atAlice("scp", "-q", *world.way("forward"), f"bob:{large}", str(target))
    carried = world.atServer() - before
    assert (done.returncode, target.stat().st_size) == (0, LARGE)
    assert carried < AT_SERVER
    target.unlink()


@WAYS
def test_rsync(world: World, way: str) -> None:
    """
    A tree of many small files is the same on both sides.
    """
    source, target = world.folder / f"tree-{way}", world.folder / f"synchronised-{way}"
    chance = random.Random(2)
    for number in range(500):
        path = source / f"{number % 20}" / f"{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.randbytes(chance.randrange(20_000)))
    ssh = shlex.join(["ssh", *world.way(way)])
    done = world.atAlice("rsync", "-a", "-e", ssh, f"{source}/", f"bob:{target}/")
    assert (done.returncode, done.stderr) == (0, "")
    compared = subprocess.run(["diff", "-r", source, target], capture_output=True, text=True)
    assert compared.stdout == ""


def test_halfClose(world: World) -> None:
    """
    A service that answers only when its input has ended can still answer.
    """
    text = "text\n" * 500_000
    done = world.alice.host.run(
        [program("punchd"), "connect", "--state", world.alice.state, "bob/checksum"], input=text
    )
    assert done.stdout == hashlib.sha256(text.encode()).hexdigest()


def test_manySessionsAtOnce(world: World) -> None:
    """
    Six sessions between the same two peers do not disturb each other.
    """

    def session(number: int) -> str:
        way = "forward" if number % 2 else "ProxyCommand"
        return world.ssh(f"sleep 0.5; head -c 2000000 /dev/zero | wc -c; echo {number}", way).stdout

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(session, range(6))) == [f"2000000\n{number}\n" for number in range(6)]


def test_oneAfterTheOther(world: World) -> None:
    """
    Ten sessions in a row, each on the two ports of the one before.
    """
    assert [world.ssh("true").returncode for _ in range(10)] == [0] * 10


def test_pingsOneAfterTheOther(world: World) -> None:
    """
    Ten times a new connection on the same two ports, and never a second one needed.
    """
    facts = [world.alice.ping(world.bob) for _ in range(10)]
    assert [each["strategy"] for each in facts] == ["simultaneous"] * 10


@pytest.mark.parametrize("way", ["forward", "ProxyCommand"])
def test_aSessionOutlivesAnotherAddress(world: World, way: str) -> None:
    """
    The router at home gets another address from the provider, and the session goes on.
    """
    count = "for number in $(seq 40); do echo $number; sleep 0.1; done"
    with ThreadPoolExecutor(1) as pool:
        session = pool.submit(world.ssh, count, way)
        time.sleep(1.5)
        world.lab.renumber(world.bob.host)
        done = session.result()
    assert done.stdout.split() == [str(number) for number in range(1, 41)], done.stderr
    for peer in (world.alice, world.bob):
        peer.awaitConnected()
