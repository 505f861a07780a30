"""
The recipes of the manual for C{--on-change}, with a real nginx and a real BIND: what a client sees.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import DEVNULL, CompletedProcess
from typing import Final

import attrs
import pytest
from attrs import evolve

from punchd.hooks.facts import Facts, Subject, variablesFor
from punchd.testing.natlab import Host, NatLab
from punchd.values.peers import PeerID
from tests.natlab.daemons import RECIPES, ZONE, Bind, Nginx
from tests.natlab.patience import until

pytestmark = pytest.mark.waiting

UNPRIVILEGED: Final = ("setpriv", "--bounding-set=-dac_override")
"""Root who may not write everywhere."""

BOB: Final = Facts(Subject.PEER, "bob", PeerID(bytes(32)))


@attrs.frozen
class World:
    """
    A machine with nginx and BIND, a client, and two places where a peer may be.
    """

    lab: NatLab
    server: Host
    client: Host
    one: Host
    other: Host
    nginx: Nginx
    bind: Bind

    def get(self) -> str:
        """
        The page that a client gets from nginx, or the status.
        """
        show = "%{http_code}"
        command = ["curl", "-sS", "-m", "5", "-w", show, f"http://{self.server.address}/"]
        said = self.client.run(command).stdout
        return said.removesuffix("200") or said

    def dig(self, name: str, kind: str) -> list[str]:
        command = ["dig", f"@{self.server.address}", "+short", "+tries=1", "+time=3"]
        there = f"{name}.{ZONE}".removeprefix(".")
        return self.client.run([*command, there, kind]).stdout.splitlines()

    def tell(
        self, recipe: str, *words: str, facts: Facts | None = None, prefix: tuple[str, ...] = ()
    ) -> CompletedProcess[str]:
        """
        Run a recipe as C{--on-change} does.
        """
        settings = {"NGINX_COMMAND": self.nginx.called, "DNS_SERVER": self.server.address}
        facts_ = {} if facts is None else variablesFor(facts, None)
        environment = [f"{name}={value}" for name, value in {**settings, **facts_}.items()]
        command = ["env", *environment, *prefix, str(RECIPES / recipe), *words]
        return self.server.run(command, check=False, timeout=30)

    def tellNginx(
        self, facts: Facts | None = None, prefix: tuple[str, ...] = ()
    ) -> tuple[int, str]:
        done = self.tell(
            "nginx-upstream.sh", str(self.nginx.upstreams), "bob/web", facts=facts, prefix=prefix
        )
        assert done.stdout == ""
        return done.returncode, done.stderr

    def tellBIND(self, facts: Facts) -> tuple[int, str]:
        done = self.tell("dns-update.sh", ZONE, str(self.bind.key), "web", facts=facts)
        return done.returncode, done.stderr


#: Serves the pages of a folder. That of C{python -m http.server} first asks for its own name, which
#: takes seconds on a machine that has none.
PAGES: Final = """
import functools, http.server, socketserver, sys
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
socketserver.ThreadingTCPServer(("", 8080), handler).serve_forever()
"""


def at(host: Host) -> Facts:
    """
    Bob publishes his service there.
    """
    return evolve(BOB, observed=host.address, addresses=(host.address,), services=(("web", 8080),))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("recipes")
    with NatLab(delay=0.001) as lab, contextlib.ExitStack() as stack:
        server, client = lab.addPublic("server"), lab.addPublic("client")
        one, other = lab.addPublic("one"), lab.addPublic("other")
        for place in one, other:
            pages = folder / place.name
            pages.mkdir()
            (pages / "index.html").write_text(f"this is {place.name}")
            place.popen([sys.executable, "-c", PAGES, str(pages)], stderr=DEVNULL, stdout=DEVNULL)
        nginx = Nginx(server, folder / "nginx")
        bind = stack.enter_context(Bind(server, folder / "bind"))
        here = World(lab, server, client, one, other, nginx, bind)
        # As the manual says: once by hand.
        assert here.tellNginx() == (0, "")
        stack.enter_context(nginx)
        yield here


def serves(world: World, page: str) -> None:
    """
    As soon as nginx has new processes.
    """
    until(lambda: world.get() == page, f"served: {page}", 5)


def test_nginxKnowsWhereThePeerIs(world: World) -> None:
    assert world.get().endswith("502")
    assert world.tellNginx(at(world.one)) == (0, "")
    serves(world, "this is one")
    assert world.tellNginx(at(world.other)) == (0, "")
    serves(world, "this is other")
    assert world.tellNginx(BOB.gone()) == (0, "")
    until(lambda: world.get().endswith("502"), "refused")


def test_anUpstreamMayHaveAnIPv6Address(world: World) -> None:
    sixth = evolve(at(world.one), addresses=("2001:db8::1",))
    assert world.tellNginx(sixth) == (0, "")
    assert "server [2001:db8::1]:8080;" in (world.nginx.upstreams / "web.bob.conf").read_text()


def test_whatHasNotChangedCostsNoReload(world: World) -> None:
    world.tellNginx(at(world.one))
    serves(world, "this is one")
    before = world.nginx.reloads
    for facts in (
        at(world.one),
        evolve(at(world.one), services=(("irc", 6667), ("web", 8080))),
        evolve(at(world.other), name="carol"),
        Facts(Subject.LINK, "bob", BOB.peerID, path="direct"),
    ):
        assert world.tellNginx(facts) == (0, "")
    assert world.get() == "this is one"
    assert world.nginx.reloads == before


def test_aConfigurationThatNginxDoesNotTakeIsNotTouched(world: World) -> None:
    """
    Somebody has made a mistake elsewhere: nginx goes on as it is, and could be restarted as soon as
    that is mended.
    """
    world.tellNginx(at(world.one))
    file = world.nginx.upstreams / "web.bob.conf"
    before, reloads = file.read_text(), world.nginx.reloads
    mistake = world.nginx.folder / "mistake.more"
    mistake.write_text("nonsense;")
    for _ in range(2):
        status, said = world.tellNginx(at(world.other))
        assert status == 1
        assert 'unknown directive "nonsense"' in said
        assert "nginx does not take its configuration; the upstreams are as they were" in said
        assert file.read_text() == before
    assert (world.get(), world.nginx.reloads) == ("this is one", reloads)
    mistake.unlink()
    assert world.tellNginx(at(world.other)) == (0, "")
    serves(world, "this is other")


def test_anNginxThatDoesNotRunIsToldLater(world: World) -> None:
    world.tellNginx(at(world.one))
    world.nginx.stop()
    status, said = world.tellNginx(at(world.other))
    assert status == 1
    assert "nginx could not be told to read its configuration: does it run?" in said
    world.nginx.start()
    reloads = world.nginx.reloads
    for _ in range(2):
        # The file is as it should be, and nginx is told nevertheless; once.
        assert world.tellNginx(at(world.other)) == (0, "")
    until(lambda: world.nginx.reloads == reloads + 1, "told")
    serves(world, "this is other")


def test_aFolderThatCannotBeWrittenToIsSaid(world: World) -> None:
    world.tellNginx(at(world.one))
    file = world.nginx.upstreams / "web.bob.conf"
    before = file.read_text()
    os.chown(world.nginx.upstreams, 65534, 65534)
    status, said = world.tellNginx(at(world.other), UNPRIVILEGED)
    os.chown(world.nginx.upstreams, 0, 0)
    assert status == 1
    assert said.endswith(f"nginx-upstream.sh: cannot write to {world.nginx.upstreams}\n")
    assert file.read_text() == before
    assert world.tellNginx(at(world.other), UNPRIVILEGED) == (0, "")
    serves(world, "this is other")
    assert [each.name for each in world.nginx.upstreams.iterdir()] == ["web.bob.conf"]


def test_aZoneHasTheRecordsOfWhoIsThere(world: World) -> None:
    facts = evolve(at(world.one), addresses=(world.one.address, "2001:db8::1"))
    assert world.tellBIND(facts) == (0, "")
    assert world.dig("bob", "A") == [world.one.address]
    assert world.dig("bob", "AAAA") == ["2001:db8::1"]
    assert world.dig("_web._tcp.bob", "SRV") == [f"0 0 8080 bob.{ZONE}."]
    assert world.tellBIND(evolve(at(world.other), services=())) == (0, "")
    assert world.dig("bob", "A") == [world.other.address]
    assert world.dig("bob", "AAAA") + world.dig("_web._tcp.bob", "SRV") == []
    assert world.tellBIND(BOB.gone()) == (0, "")
    assert world.dig("bob", "A") == []


def test_whatIsInTheZoneAlreadyChangesNothing(world: World) -> None:
    world.tellBIND(at(world.one))
    before = world.dig("", "SOA")
    assert world.tellBIND(at(world.one)) == (0, "")
    assert world.dig("", "SOA") == before


@pytest.mark.parametrize("name", ["ns.bob", "bob_", "b.", "bob-"])
def test_whatIsNoNameOfAHostIsNotInTheZone(world: World, name: str) -> None:
    before = world.dig("", "SOA")
    assert world.tellBIND(evolve(at(world.one), name=name)) == (0, "")
    assert world.dig("", "SOA") == before


def test_theZoneBeginsWithAFileThatBINDTakes() -> None:
    file = RECIPES / "peers.example.org.zone"
    done = subprocess.run(
        ["named-checkzone", ZONE, file], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.stdout == f"zone {ZONE}/IN: loaded serial 1\nOK\n"


def test_aKeyThatIsNotThereIsSaid(world: World) -> None:
    done = world.tell("dns-update.sh", ZONE, "/nowhere", facts=BOB)
    assert (done.returncode, done.stderr) == (1, "dns-update.sh: cannot read the key /nowhere\n")


def test_aKeyThatBINDDoesNotKnowIsSaid(world: World, tmp_path: Path) -> None:
    other = tmp_path / "key"
    other.write_text(world.server.run(["tsig-keygen", "punchd."]).stdout)
    done = world.tell("dns-update.sh", ZONE, str(other), facts=at(world.one))
    assert done.returncode == 1
    assert "BADSIG" in done.stderr
    assert f"dns-update.sh: the zone {ZONE}. could not be updated" in done.stderr
