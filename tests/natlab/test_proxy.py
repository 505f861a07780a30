"""
A machine with a static address as the front of a host at home: a real nginx there and another at
home, in the configurations of the manual.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from punchd.identity.certificates import selfSigned
from punchd.testing.deployment import Deployment, PeerProcess
from punchd.testing.natlab import Host, NatLab
from tests.natlab import website
from tests.natlab.nginx import Nginx
from tests.unit.identity.making import makeIdentity

pytestmark = pytest.mark.waiting

NAME: Final = "bob.example.org"

DELAY: Final = 0.01
"""Seconds between two sites, one way."""

LARGE: Final = 20 * 1000 * 1000
"""Bytes of the large file."""

PATIENCE: Final = 20.0

SOON: Final = 2 * DELAY + website.PAUSE / 2
"""Seconds in which comes what nobody holds back; the next event would come later."""


@attrs.frozen
class World:
    """
    A server, a peer and an nginx on one machine; Bob's web site behind a NAT; and somebody who
    knows of neither.

    @ivar go: the file that lets the second half of a download go.
    @ivar digest: of the whole.
    """

    lab: NatLab
    deployment: Deployment
    site: PeerProcess
    bob: PeerProcess
    client: Host
    front: Nginx
    home: Nginx
    go: Path
    digest: str

    def curl(self, url: str, *options: str, root: Nginx | None = None) -> list[str]:
        """
        The command that fetches it, from the machine with the static address.

        @param root: whose certificate is expected.
        """
        there, certificate = self.site.host.address, certificateIn((root or self.front).folder)
        names = (f"{NAME}:{port}:{there}" for port in (80, 443, 4433))
        resolving = (word for name in names for word in ("--resolve", name))
        known = ("--cacert", str(certificate), *resolving)
        return ["curl", "-sS", "--max-time", f"{PATIENCE:.0f}", *known, *options, url]

    def get(self, url: str, *options: str, root: Nginx | None = None) -> tuple[int, str]:
        """
        The status, 0 for none, and what came.
        """
        command = self.curl(url, "-w", "\n%{http_code}", *options, root=root)
        body, _, status = self.client.run(command, check=False).stdout.rpartition("\n")
        return int(status), body

    def until(self, isSo: Callable[[], Any], what: str) -> float:
        """
        Wait until something is so.

        @return: how long it took, in seconds.
        """
        began = time.monotonic()
        while not isSo():
            assert time.monotonic() - began < PATIENCE, f"not {what} within {PATIENCE:.0f} s"
            time.sleep(0.05)
        return time.monotonic() - began


def certificateIn(folder: Path) -> Path:
    return folder / "live" / NAME / "fullchain.pem"


def certify(folder: Path) -> None:
    """
    Put a key and a certificate for it where nginx looks for them.
    """
    identity = makeIdentity()
    certificate = certificateIn(folder)
    certificate.parent.mkdir(parents=True)
    certificate.write_bytes(selfSigned(identity, (NAME,)).certificate.public_bytes(Encoding.PEM))
    key = identity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (certificate.parent / "privkey.pem").write_bytes(key)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with NatLab(DELAY) as lab, contextlib.ExitStack() as stack:
        host = lab.addPublic("site")
        options = ("--zone", "peers.example.org", "--dns-ttl", "1")
        deployment = stack.enter_context(Deployment(host, options, relay=True))
        forwards = {"127.0.0.1:8080": "bob/web", "127.0.0.1:8443": "bob/tls"}
        site = deployment.addPeer(host, forwards=forwards)
        bob = deployment.addPeer(
            lab.addHost("bob", "port-restricted", lends=("pcp",)),
            exposures={
                "web": "proxy-v2:tcp:127.0.0.1:8000",
                "tls": "tcp:127.0.0.1:8443",
                "site": "tcp:127.0.0.1:8001",
            },
            # Without the port that the router lends, for which there is a service.
            options=(
                "--publish-address",
                "--publish",
                "site=8001",
                "--strategies",
                "simultaneous,direct",
            ),
        )
        deployment.acquaint()
        content = random.Random(8).randbytes(LARGE)
        large, go = deployment.folder / "large", deployment.folder / "go"
        large.write_bytes(content)
        serving = bob.host.popen(
            [sys.executable, website.__file__, "serve", "8001", str(large), str(go)],
            stdout=subprocess.PIPE,
        )
        for name in ("front", "home"):
            certify(deployment.folder / name)
        home = Nginx(bob.host, deployment.folder / "home", "home.conf")
        # Two that listen at one port are too many for one machine.
        front = Nginx(
            host,
            deployment.folder / "front",
            "site.conf",
            "byname.conf",
            "passthrough.conf",
            changes={"listen 443;": "listen 4433;", "listen [::]:443;": "listen [::]:4433;"},
        )
        deployment.start()
        assert serving.stdout is not None
        assert serving.stdout.readline() == b"ready\n"
        digest = hashlib.sha256(content).hexdigest()
        client = lab.addPublic("client")
        yield World(lab, deployment, site, bob, client, front, home, go, digest)


def logged(nginx: Nginx) -> str:
    """
    The last line of its log.
    """
    return (nginx.folder / "home.log").read_text().splitlines()[-1]


def test_aPageComesFromHomeWhichKnowsWhoAsks(world: World) -> None:
    client, site = world.client.address, world.site.host.address
    status, page = world.get(f"https://{NAME}/")
    assert (status, page) == (200, f"Hello {client}, this is {NAME}\n")
    # By the PROXY protocol, who was nginx's peer; and by nginx, who was its client.
    assert logged(world.home) == f'{client} by {site} "GET / HTTP/1.1" 200'


def test_whatTheClientSaysOfItselfDoesNotCount(world: World) -> None:
    _, page = world.get(f"https://{NAME}/", "-H", "X-Forwarded-For: 192.0.2.1")
    assert page.startswith(f"Hello {world.client.address}, ")


def test_whoComesWithoutTLSIsSentToIt(world: World) -> None:
    there = f"https://{NAME}/somewhere"
    status, page = world.get(f"http://{NAME}/somewhere", "-i")
    assert status == 301
    assert f"Location: {there}" in page.splitlines()


def test_eventsComeWhenTheyAreSent(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    events = world.client.popen(
        world.curl(f"https://{NAME}/events", "-N"), stdout=subprocess.PIPE, text=True
    )
    late = []
    assert events.stdout is not None
    for line in events.stdout:
        if line.startswith("data: "):
            late.append(time.monotonic() - float(line.removeprefix("data: ")))
        if len(late) == 12:
            break
    events.kill()
    shown = ", ".join(f"{each * 1000:.0f}" for each in late)
    record_property("events", f"{shown} ms")
    # Before the next one is sent; on a busy machine, some come a little later.
    assert statistics.median(late) < SOON
    assert max(late) < SOON + 3 * website.PAUSE


def test_tlsMayPassUnread(world: World) -> None:
    """
    It is Bob's own certificate that the client sees; and Bob sees the client's address.
    """
    status, page = world.get(f"https://{NAME}:4433/", root=world.home)
    assert (status, page) == (200, f"Hello {world.client.address}, this is {NAME}\n")
    assert world.get(f"https://{NAME}:4433/", root=world.front)[0] == 0


def test_nobodyWaitsForAHostThatIsGone(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    world.bob.kill()
    began = time.monotonic()
    status, _ = world.get(f"https://{NAME}/")
    took = time.monotonic() - began
    assert status in (502, 504)
    world.bob.start()
    world.bob.awaitReady()
    back = world.until(lambda: world.get(f"https://{NAME}/")[0] == 200, "back")
    record_property("gone", f"{status} after {took:.1f} s; back {back:.1f} s after it was ready")


def test_anotherAddressBreaksNothing(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    """
    A download is half done and a websocket is in use when the provider gives Bob another address.
    """
    talking = world.client.popen(
        [
            *(sys.executable, website.__file__, "talk", world.site.host.address),
            *(f"wss://{NAME}/echo", str(certificateIn(world.front.folder))),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    heard: list[tuple[float, str]] = []

    def listen() -> None:
        assert talking.stdout is not None
        heard.extend((time.monotonic(), line.strip()) for line in talking.stdout)

    listening = threading.Thread(target=listen)
    listening.start()
    received = world.deployment.folder / "received"
    downloading = world.client.popen(world.curl(f"https://{NAME}/large", "-N", "-o", str(received)))
    world.until(lambda: received.exists() and received.stat().st_size >= LARGE // 2, "half done")
    world.until(lambda: len(heard) > 3, "talking")
    began, before = time.monotonic(), len(heard)
    world.lab.renumber(world.bob.host)
    # Who asks just now waits, but is answered.
    assert world.get(f"https://{NAME}/")[0] == 200
    world.go.touch()
    assert downloading.wait(PATIENCE) == 0
    took = time.monotonic() - began
    world.until(lambda: len(heard) > before + 3, "talking again")
    talking.kill()
    listening.join()
    assert hashlib.sha256(received.read_bytes()).hexdigest() == world.digest
    assert [number for _, number in heard] == [str(number) for number in range(len(heard))]
    gap = max(later[0] - sooner[0] for sooner, later in itertools.pairwise(heard))
    line = f"{took:.1f} s until it was all there, {gap:.1f} s without a message"
    sys.stdout.write(f"another address during a download: {line}\n")
    record_property("moved", line)


def test_nginxsResolverFollowsTheName(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    """
    Where the router lends a port, nginx finds it by the DNS, whatever its address.
    """
    url = f"http://{world.site.host.address}:8081/"
    world.until(lambda: world.get(url)[0] == 200, "published")
    new = world.lab.renumber(world.bob.host)
    assert new == world.bob.host.outside
    took = world.until(lambda: world.get(url)[0] == 200, "found again")
    record_property("resolved", f"{took:.1f} s")
