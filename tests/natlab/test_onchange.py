"""
A home whose address changes, found by strangers all the same: through an nginx and in a zone of
BIND, which a server's C{--on-change} keeps up to date by the recipes of the manual.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final

import attrs
import pytest

from punchd.testing.deployment import Deployment, PeerProcess
from punchd.testing.natlab import Host, NatLab
from tests.natlab.daemons import RECIPES, ZONE, Bind, Nginx
from tests.natlab.patience import until
from tests.natlab.source import Page
from tests.natlab.test_recipes import UNPRIVILEGED

pytestmark = pytest.mark.waiting

PAGE: Final = "a page of a home"

PATIENCE: Final = 30.0
"""Seconds in which a router's new address is noticed, leased at and proven."""


@attrs.frozen
class World:
    """
    A server with nginx and BIND on the same machine, a peer whose router lends ports, and a client.
    """

    lab: NatLab
    deployment: Deployment
    client: Host
    bob: PeerProcess
    nginx: Nginx
    bind: Bind

    @property
    def server(self) -> str:
        return self.deployment.server.host.address

    def isServed(self) -> bool:
        command = ["curl", "-sS", "-m", "1", f"http://{self.server}/"]
        return self.client.run(command, check=False).stdout == PAGE

    def dig(self, name: str, kind: str = "A") -> list[str]:
        command = ["dig", f"@{self.server}", "+short", "+tries=1", "+time=1", f"{name}.{ZONE}"]
        return self.client.run([*command, kind], check=False).stdout.splitlines()

    def isNamed(self) -> bool:
        return self.dig("bob") == [self.bob.host.outside]

    def warnings(self) -> int:
        """
        How often the server's log says that the command fails.
        """
        return self.deployment.server.said(0).count("it will be tried again")

    def recoveries(self) -> int:
        return self.deployment.server.said(0).count("the --on-change command works again")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("onchange")
    with NatLab(delay=0.005) as lab, contextlib.ExitStack() as stack:
        server = lab.addPublic("server")
        nginx = Nginx(server, folder / "nginx")
        bind = stack.enter_context(Bind(server, folder / "bind"))
        toNginx = [*UNPRIVILEGED, RECIPES / "nginx-upstream.sh", nginx.upstreams, "bob/web"]
        toBIND = [RECIPES / "dns-update.sh", ZONE, bind.key, "web"]
        settings = [f"NGINX_COMMAND={nginx.called}", f"DNS_SERVER={server.address}"]
        both = [shlex.join(map(str, words)) for words in (toNginx, toBIND)]
        command = shlex.join(["env", *settings, str(RECIPES / "several.sh"), *both])
        server.run([RECIPES / "nginx-upstream.sh", nginx.upstreams, "bob/web"])
        stack.enter_context(nginx)
        # With a short TTL, peers look after their connections often.
        options = ["--zone", "punchd.example.org", "--dns", "udp:5354", "--dns-ttl", "1"]
        deployment = stack.enter_context(Deployment(server, [*options, "--on-change", command]))
        page = stack.enter_context(Page(deployment.folder / "page", PAGE.encode()))
        home = lab.addHost("bob", "port-restricted", lends=("pcp",))
        bob = deployment.addPeer(
            home, exposures={"web": page.endpoint}, options=("--publish", "web=8080")
        )
        client = lab.addPublic("client")
        secret = deployment.addPeer(lab.addHost("secret", "port-restricted"))
        deployment.start()
        assert secret.isRunning
        yield World(lab, deployment, client, bob, nginx, bind)


def test_strangersFindAHome(world: World) -> None:
    until(world.isServed, "served through nginx", PATIENCE)
    until(world.isNamed, "named by BIND")
    assert world.dig("_web._tcp.bob", "SRV") == [f"0 0 8080 bob.{ZONE}."]
    # That one has not asked for it.
    assert world.dig("secret") == []
    assert world.warnings() == 0


def test_strangersFindAHomeAtItsNewAddress(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    world.lab.renumber(world.bob.host)
    began = time.monotonic()
    windows: dict[str, float] = {}
    ways = {"nginx": world.isServed, "BIND": world.isNamed}
    while len(windows) < len(ways):
        for name, isThere in ways.items():
            if name not in windows and isThere():
                windows[name] = time.monotonic() - began
        assert time.monotonic() - began < PATIENCE, windows
    line = ", ".join(f"{seconds:.1f} s by {name}" for name, seconds in windows.items())
    sys.stdout.write(f"a home was found at its new address after {line}\n")
    record_property("on-change", line)


def test_whileBINDIsDownNginxIsToldAndBINDLater(world: World) -> None:
    world.bind.stop()
    world.lab.renumber(world.bob.host)
    until(world.isServed, "served through nginx", PATIENCE)
    until(lambda: world.warnings() == 1, "told")
    assert "connection refused" in world.deployment.server.said(0)
    assert not world.isNamed()
    # Another try, of which nothing is said.
    time.sleep(1.5)
    world.bind.start()
    until(world.isNamed, "named by BIND", PATIENCE)
    until(lambda: world.recoveries() == 1, "told")
    assert world.warnings() == 1
    assert "Traceback" not in world.deployment.server.said(0)
