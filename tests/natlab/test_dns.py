"""
Names of peers in the DNS, as strangers' programs see them: C{dig}, and the C library's resolver.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final

import attrs
import pytest

from punchd.testing.deployment import Deployment, PeerProcess
from punchd.testing.natlab import Host, NatLab
from tests.natlab import resolver
from tests.natlab.patience import until
from tests.natlab.source import Source

ZONE: Final = "peers.example.org"

STALE: Final = 2.0
"""Seconds after which nobody is told an address that its peer has lost, with a TTL of 1."""

KEPT: Final = 3
"""Seconds for which the address of a peer is told that has gone."""

CONTENT: Final = b"a service of a home"

KNOCK: Final = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 3) as connection:
    while data := connection.recv(100):
        sys.stdout.write(data.decode())
"""
"""Connects, and prints what comes."""


@attrs.frozen
class World:
    """
    A server with a zone, a resolver, and three peers: in the DNS with a service, with its name
    alone, and not at all.
    """

    lab: NatLab
    deployment: Deployment
    client: Host
    bob: PeerProcess
    carol: PeerProcess
    dave: PeerProcess

    @property
    def server(self) -> str:
        return self.deployment.server.host.address

    def dig(self, *arguments: str) -> str:
        """
        All that C{dig} says.
        """
        command = ["dig", f"@{self.server}", "+tries=1", "+time=3", *arguments]
        return self.client.run(command, check=False).stdout

    def short(self, *arguments: str) -> list[str]:
        """
        The answers alone.
        """
        return self.dig("+short", *arguments).splitlines()


def statusOf(output: str) -> str:
    found = re.search(r"status: (\w+)", output)
    assert found is not None, output
    return found[1]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with NatLab(delay=0.01) as lab, contextlib.ExitStack() as stack:
        server = lab.addPublic("server", ipv6=True)
        assert server.ipv6 is not None
        options = ["--zone", ZONE, "--dns-ttl", "1", "--dns-keep", str(KEPT)]
        options += ["--host", server.ipv6, "--assist", "tcp:7762", "--assist", "tcp6:7763"]
        deployment = stack.enter_context(Deployment(server, options))
        source = stack.enter_context(Source(deployment.folder / "source", CONTENT))
        home = lab.addHost("bob", "port-restricted", lends=("pcp",), ipv6=True)
        exposures = {"web": source.endpoint}
        published = ("--publish-address", "--publish", "web=8080")
        bob = deployment.addPeer(home, exposures=exposures, options=published)
        carol = deployment.addPeer(lab.addHost("carol", "random"), options=("--publish-address",))
        dave = deployment.addPeer(lab.addPublic("dave"))
        deployment.start()
        yield World(lab, deployment, lab.addPublic("client", ipv6=True), bob, carol, dave)


def test_aNameIsTheAddressThatTheServerSees(world: World) -> None:
    assert world.short(f"carol.{ZONE}") == [world.carol.host.outside]
    output = world.dig(f"carol.{ZONE}")
    assert statusOf(output) == "NOERROR"
    assert re.search(r"flags: qr aa rd;", output)
    assert re.search(rf"^carol\.{ZONE}\.\s+1\s+IN\s+A\s", output, re.MULTILINE)


def test_theTextIsThePeersID(world: World) -> None:
    assert world.short(f"carol.{ZONE}", "TXT") == [f'"{world.carol.peerID}"']


def test_aPublishedServiceIsWhereStrangersReachIt(world: World) -> None:
    question = (f"_web._tcp.bob.{ZONE}", "SRV")
    found = until(lambda: world.short(*question), "published")
    assert found == [f"0 0 8080 bob.{ZONE}."]
    address = world.bob.host.outside
    assert address in world.dig(*question)
    heard = world.client.run([sys.executable, "-IS", "-c", KNOCK, address, "8080"]).stdout
    assert heard == CONTENT.decode()


def test_whoHasNotAskedIsNotThere(world: World) -> None:
    output = world.dig(f"dave.{ZONE}")
    assert statusOf(output) == "NXDOMAIN"
    assert "IN\tSOA\t" in output


def test_otherNamesAreRefused(world: World) -> None:
    assert statusOf(world.dig("example.com")) == "REFUSED"
    assert statusOf(world.dig("version.bind", "CH", "TXT")) == "REFUSED"


def test_nobodyGetsEverything(world: World) -> None:
    assert world.short(f"bob.{ZONE}", "ANY", "+notcp") == ['"RFC8482" ""']
    assert "status: NOTIMP" in world.dig(ZONE, "AXFR", "+comments")


@pytest.mark.parametrize(
    "how", ["+tcp", "+notcp", "+edns=0", "+noedns", "+bufsize=4096", "+nocookie", "+dnssec"]
)
def test_theWayOfAskingDoesNotMatter(world: World, how: str) -> None:
    assert world.short(f"carol.{ZONE}", how) == [world.carol.host.outside]


@pytest.mark.parametrize(
    ("how", "status"),
    [("+edns=1", "BADVERS"), ("+opcode=update", "NOTIMP"), ("+opcode=status", "NOTIMP")],
)
def test_whatIsOddIsToldSo(world: World, how: str, status: str) -> None:
    assert statusOf(world.dig(f"carol.{ZONE}", how, "+noednsneg")) == status


def test_anUnknownOptionIsIgnored(world: World) -> None:
    assert world.short(f"carol.{ZONE}", "+ednsopt=65001:abcd") == [world.carol.host.outside]


def test_theZoneNamesItsServer(world: World) -> None:
    assert world.short(ZONE, "NS") == [f"ns.{ZONE}."]
    assert world.short(f"ns.{ZONE}") == [world.server]
    assert world.short(f"ns.{ZONE}", "AAAA") == [world.deployment.server.host.ipv6]
    assert world.short(ZONE, "SOA")[0].startswith(f"ns.{ZONE}. hostmaster.{ZONE}. ")


def resolve(world: World, name: str) -> list[str]:
    """
    What the C library says, with the server as its only name server.
    """
    folder = world.deployment.folder
    (folder / "resolv.conf").write_text(f"nameserver {world.server}\noptions timeout:2\n")
    (folder / "nsswitch.conf").write_text("hosts: dns\n")
    script = "".join(
        f"mount --bind {folder}/{name} /etc/{name} || exit 9\n"
        for name in ("resolv.conf", "nsswitch.conf")
    )
    command = ["unshare", "--mount", "sh", "-c", f"{script}exec getent ahosts {name}"]
    lines = world.client.run(command, check=False).stdout.splitlines()
    return list(dict.fromkeys(line.split()[0] for line in lines))


def test_theCLibraryFindsPeers(world: World) -> None:
    assert resolve(world, f"carol.{ZONE}") == [world.carol.host.outside]
    assert resolve(world, f"dave.{ZONE}") == []


def delv(world: World, *arguments: str) -> str:
    """
    All that C{delv} says.
    """
    command = ["delv", f"@{world.server}", *arguments]
    done = world.client.run(command, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("how", ["-i", "+noroot"])
def test_delvTakesTheZoneForOneThatIsNotSigned(world: World, how: str) -> None:
    """
    With its validation switched off, in either way; there is nothing here that could be validated.
    """
    output = delv(world, how, f"carol.{ZONE}")
    assert re.search(rf"^carol\.{ZONE}\.\s+1\s+IN\s+A\s+{world.carol.host.outside}$", output, re.M)
    assert "ncache nxdomain" in delv(world, how, f"nobody.{ZONE}")
    assert "ncache nxrrset" in delv(world, how, f"carol.{ZONE}", "MX")


def test_aPeerKnowsItsName(world: World) -> None:
    assert f"is carol.{ZONE} in the DNS" in world.carol.command("status").stdout.splitlines()
    [server] = json.loads(world.dave.command("status", "--json").stdout)["servers"]
    assert server["dns"] is None


def test_aGlobalIPv6AddressIsThereToo(world: World) -> None:
    ipv6 = world.bob.host.ipv6
    until(lambda: world.short(f"bob.{ZONE}", "AAAA") == [ipv6], f"named {ipv6}")
    assert set(resolve(world, f"bob.{ZONE}")) == {world.bob.host.outside, ipv6}


def test_aNewAddressIsKnownSoon(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    """
    The provider gives a home another address, while somebody resolves its name ten times a second.
    """
    windows = []
    asking = world.client.popen(
        [sys.executable, "-IS", resolver.__file__, world.server, f"carol.{ZONE}", "0.1"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert asking.stdout is not None
    at, address = json.loads(asking.stdout.readline())
    assert address == world.carol.host.outside
    for _ in range(5):
        time.sleep(1.37)
        began = time.monotonic()
        new = world.lab.renumber(world.carol.host)
        # In between there may be none.
        while address != new:
            at, address = json.loads(asking.stdout.readline())
        windows.append(at - began)
    line = ", ".join(f"{window:.2f}" for window in sorted(windows))
    sys.stdout.write(f"seconds until another address was resolved, TTL 1: {line}\n")
    record_property("stale", line)
    assert max(windows) <= STALE


def test_whoHasGoneIsRememberedForAWhile(world: World) -> None:
    """
    With C{--dns-keep}: his last address, marked as stale, and then nothing any more.
    """
    name, address = f"carol.{ZONE}", world.carol.host.outside
    assert world.short(name, "TXT") == [f'"{world.carol.peerID}"']
    world.carol.kill()
    texts = until(lambda: _stale(world.short(name, "TXT")), "marked as stale")
    assert texts[0] == f'"{world.carol.peerID}"'
    gone = time.monotonic()
    assert world.short(name) == [address]
    until(lambda: statusOf(world.dig(name)) == "NXDOMAIN", "forgotten")
    assert time.monotonic() - gone > KEPT - 1
    assert world.short(name, "TXT") == []
    world.carol.start()
    world.carol.awaitReady()
    assert world.short(name) == [address]
    assert world.short(name, "TXT") == [f'"{world.carol.peerID}"']


def _stale(texts: list[str]) -> list[str]:
    """
    These, the mark last; nothing if they have none.
    """
    marked = [text for text in texts if re.fullmatch(r'"stale=[0-9]+"', text)]
    return [*(text for text in texts if text not in marked), *marked] if marked else []
