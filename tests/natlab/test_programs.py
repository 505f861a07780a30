"""
Other people's programs between two NATs: C{curl} and C{ssh} by the SOCKS port, Twisted's by
endpoints.
"""

from __future__ import annotations

import getpass
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from punchd.testing.deployment import Deployment, PeerProcess
from punchd.testing.natlab import NatLab
from tests.natlab.sshd import SSHServer

EXAMPLES = Path(__file__).parents[2] / "docs/examples/endpoints"

PROXY = "127.0.0.1:1080"


@attrs.frozen
class World:
    """
    Alice and Bob behind NATs of their own; Bob has an SSH server and a web site for peers.
    """

    deployment: Deployment
    alice: PeerProcess
    bob: PeerProcess
    sshd: SSHServer
    folder: Path

    def atAlice(self, *argv: object) -> subprocess.CompletedProcess[str]:
        return self.alice.host.run(list(argv), check=False, timeout=60.0)  # type: ignore[arg-type]

    def curl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.atAlice("curl", "-sS", "--max-time", "20", *arguments)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with NatLab(delay=0.002) as lab, Deployment(lab.addPublic("server")) as deployment:
        alice = deployment.addPeer(
            lab.addHost("alice", "port-restricted"), options=["--forward", "socks:1080"]
        )
        bob = deployment.addPeer(
            lab.addHost("bob", "shifted"), exposures={"ssh": "tcp:127.0.0.1:2200"}
        )
        deployment.acquaint()
        sshd = SSHServer(bob.host, deployment.folder / "ssh")
        deployment.start()
        site = bob.host.popen(
            [sys.executable, EXAMPLES / "webserver.py", f"punchd:web:state={bob.state}"],
            stdout=subprocess.PIPE,
        )
        assert site.stdout is not None
        assert site.stdout.readline() == b"punchd:web is served by bob\n"
        yield World(deployment, alice, bob, sshd, deployment.folder / "ssh")


def test_curlReachesAPeersSiteByTheSocksPort(world: World) -> None:
    for _ in range(2):
        done = world.curl("--socks5-hostname", PROXY, "http://web.bob/")
        assert (done.stdout, done.stderr) == ("Hello, alice!\n", "")
    assert world.alice.linked(world.bob)["path"] == "direct"


@pytest.mark.parametrize("name", ["web.carol", "www.example.org", "bob"])
def test_curlIsToldThatOtherNamesAreUnreachable(world: World, name: str) -> None:
    done = world.curl("--socks5-hostname", PROXY, f"http://{name}/")
    assert done.returncode == 97  # CURLE_PROXY
    assert "(4)" in done.stderr


def test_curlIsToldThatAServiceIsRefused(world: World) -> None:
    done = world.curl("--socks5-hostname", PROXY, "http://other.bob/")
    assert done.returncode == 97
    assert "(5)" in done.stderr


def test_curlIsToldThatAddressesAreNotForPeers(world: World) -> None:
    done = world.curl("--socks5", PROXY, "http://127.0.0.1/")
    assert done.returncode == 97
    assert "(8)" in done.stderr


def test_theSocksPortIsInTheStatus(world: World) -> None:
    status = world.alice.status()
    assert status is not None
    assert status["forwards"] == [{"listen": "socks:1080", "peer": None, "service": None}]


def test_sshGoesByTheSocksPort(world: World) -> None:
    """
    With the proxy command that the manual shows.
    """
    options = world.sshd.options(ProxyCommand=f"nc.openbsd -X 5 -x {PROXY} %h %p")
    done = world.atAlice("ssh", *options, "ssh.bob", "echo", "it", "is")
    assert (done.returncode, done.stdout) == (0, "it is\n"), done.stderr


def test_agentsFetchByEndpoints(world: World) -> None:
    done = world.atAlice(
        sys.executable, EXAMPLES / "webclient.py", "http://web.bob/", f":state={world.alice.state}"
    )
    assert done.stdout == "200 Hello, alice!\n", done.stderr


@pytest.mark.parametrize(("command", "status"), [("echo it is; hostname", 0), ("exit 7", 7)])
def test_conchRunsACommandOnAPeer(world: World, command: str, status: int) -> None:
    done = world.atAlice(
        sys.executable,
        EXAMPLES / "sshclient.py",
        f"punchd:bob/ssh:state={world.alice.state}",
        getpass.getuser(),
        world.folder / "user",
        world.folder / "host.pub",
        command,
    )
    assert done.returncode == status, done.stderr
    assert done.stdout.startswith("it is\n" if not status else "")
