"""
The units, under a real systemd.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from punchd.identity.folder import StateFolder
from punchd.identity.keys import Identity
from punchd.identity.pins import Pins
from tests.natlab.booted import Booted

pytestmark = pytest.mark.waiting

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs/examples/systemd"

SERVICES = ("punchd-server.service", "punchd-peer.service")
SOCKETS = (
    "punchd-server-tcp@53.socket",
    "punchd-server-udp@53.socket",
    "punchd-peer-tcp@8080.socket",
)

#: Of ten times as much, as C{systemd-analyze security} counts: the network, and little else.
EXPOSURE = 15

SERVER = 'host = ["127.0.0.1"]\n'
WEB = 8000

#: Units of these tests.
BESIDE = "/run/systemd/system/beside.service"
SITE = "/run/systemd/system/site.service"
SSHD = "/run/systemd/system/peers-sshd.service"

#: Bytes of a download, and how many of them its client takes a second.
LARGE = 40_000_000
RATE = 12_000_000


@pytest.fixture(scope="module")
def systemd() -> Iterator[Booted]:
    with Booted() as systemd:
        # As the howto says.
        systemd.run("/opt/punchd/bin/twistd", "--help")
        systemd.run("mkdir", "-p", "/etc/punchd")
        systemd.write("/etc/punchd/server.toml", SERVER)
        systemd.write("/tmp/web/hello", "hello")
        systemd.run("truncate", f"--size={LARGE}", "/tmp/web/large")
        python = f"/opt/punchd/python/bin/python{sys.version_info.major}"
        command = f"{python} -m http.server --bind=127.0.0.1 --directory=/tmp/web {WEB}"
        environment = "Environment=LD_LIBRARY_PATH=/opt/punchd/python/lib"
        systemd.write(SITE, f"[Service]\n{environment}\nExecStart={command}\n")
        systemd.systemctl("start", "site")
        retry = ("--retry", "50", "--retry-delay", "1", "--retry-connrefused")
        systemd.run("curl", "-sS", *retry, f"http://127.0.0.1:{WEB}/hello")
        yield systemd


def clean(systemd: Booted) -> None:
    """
    Leave nothing to the next test.
    """
    systemd.systemctl("stop", *SOCKETS, *SERVICES, check=False)
    systemd.systemctl("reset-failed", *SERVICES, check=False)
    left = ("/etc/systemd/system/punchd-*.service.d", "/var/lib/punchd-*", "/var/lib/private/*")
    systemd.run("sh", "-c", f"rm -rf {' '.join(left)}")
    systemd.write("/etc/punchd/server.toml", SERVER)
    systemd.systemctl("daemon-reload")


class Cleaned:
    """
    Tests after each of which it is as before.
    """

    @pytest.fixture(autouse=True)
    def cleaned(self, systemd: Booted) -> Iterator[None]:
        yield
        clean(systemd)


class Beside:
    """
    A peer with a unit of its own, which allows everything.
    """

    def __init__(self, systemd: Booted, name: str, join: str, *options: str) -> None:
        self._systemd = systemd
        self.folder = StateFolder.at(str(systemd.root / "tmp" / name))
        said = (f"--name={name}", f"--server={join}", f"--state=/tmp/{name}", *options)
        command = f"/opt/punchd/bin/twistd -n --pidfile= punchd-peer {' '.join(said)}"
        systemd.write(BESIDE, f"[Service]\nType=notify\nExecStart={command}\n")
        systemd.systemctl("daemon-reload")

    def start(self) -> None:
        self._systemd.systemctl("start", Path(BESIDE).name)

    def close(self) -> None:
        self._systemd.systemctl("stop", Path(BESIDE).name)
        shutil.rmtree(self.folder.path)


def startServer(systemd: Booted) -> str:
    """
    @return: the join address.
    """
    systemd.systemctl("start", "punchd-server")
    return systemd.read("/var/lib/private/punchd-server/join").strip()


def dropIn(systemd: Booted, service: str, content: str) -> None:
    systemd.write(f"/etc/systemd/system/{service}.service.d/test.conf", content)
    systemd.systemctl("daemon-reload")


def configurePeer(systemd: Booted, join: str, name: str = "bob", more: str = "") -> None:
    text = f'name = "{name}"\nserver = "{join}"\n{more}\n'
    systemd.write("/etc/punchd/peer.toml", text)


class TestTheUnits:
    def test_systemdUnderstandsThem(self, systemd: Booted) -> None:
        done = systemd.run("systemd-analyze", "verify", "--man=no", *SERVICES, *SOCKETS)
        assert (done.stdout, done.stderr) == ("", "")

    @pytest.mark.parametrize("service", SERVICES)
    def test_theyAllowLittle(self, systemd: Booted, service: str) -> None:
        path = f"/etc/systemd/system/{service}"
        threshold = f"--threshold={EXPOSURE}"
        done = systemd.run(
            "systemd-analyze", "security", "--offline=true", threshold, path, check=False
        )
        assert done.returncode == 0, done.stdout
        # One that allows everything would not do.
        systemd.write("/tmp/open.service", "[Service]\nExecStart=/bin/true\n")
        done = systemd.run(
            "systemd-analyze",
            "security",
            "--offline=true",
            threshold,
            "/tmp/open.service",
            check=False,
        )
        assert done.returncode == 1


class TestTheServer(Cleaned):
    def test_itRunsAsTheHowtoSays(self, systemd: Booted) -> None:
        systemd.systemctl("enable", "--now", "punchd-server")
        join = systemd.read("/var/lib/private/punchd-server/join").strip()
        facts = systemd.show("punchd-server", "ActiveState", "StatusText", "MainPID")
        assert facts["ActiveState"] == "active"
        assert facts["StatusText"] == f"peers: 0; relayed paths: 0; join address: {join}"
        status = systemd.read(f"/proc/{facts['MainPID']}/status")
        assert re.search(r"^CapEff:\s0+$", status, re.MULTILINE)
        assert re.search(r"^NoNewPrivs:\s1$", status, re.MULTILINE)
        assert re.search(r"^Uid:\s[1-9]", status, re.MULTILINE)
        began = time.monotonic()
        systemd.systemctl("disable", "--now", "punchd-server")
        assert time.monotonic() - began < 5
        facts = systemd.show("punchd-server", "Result", "ActiveState")
        assert facts == {"Result": "success", "ActiveState": "inactive"}

    def test_itsJournalHasPrioritiesAndNoTimes(self, systemd: Booted) -> None:
        join = startServer(systemd)
        lines = systemd.journal("--unit=punchd-server", "--output=json").splitlines()
        entries = [json.loads(line) for line in lines]
        told = {entry["MESSAGE"]: entry for entry in entries}
        entry = told[f"peers join with --server {join}"]
        assert (entry["PRIORITY"], entry["SYSLOG_IDENTIFIER"]) == ("6", "punchd-server")

    def test_itStartsAgainWhenItHangs(self, systemd: Booted) -> None:
        # A core file is not wanted.
        dropIn(
            systemd,
            "punchd-server",
            "[Service]\nRestartSec=100ms\nWatchdogSec=1\nWatchdogSignal=KILL\n",
        )
        startServer(systemd)
        time.sleep(1.5)
        assert systemd.show("punchd-server", "NRestarts") == {"NRestarts": "0"}
        systemd.systemctl("kill", "--signal=STOP", "punchd-server")
        systemd.waitFor(
            lambda: (
                systemd.show("punchd-server", "NRestarts", "ActiveState")
                == {"NRestarts": "1", "ActiveState": "active"}
            ),
            "running again",
        )
        assert "watchdog" in systemd.journal("--unit=punchd-server").lower()

    @pytest.mark.parametrize(
        ("configuration", "reason"),
        [
            ("hst = 1\n", "/etc/punchd/server.toml: there is no option 'hst'"),
            (SERVER + 'zone = "a.example"\n', "port 53: Permission denied"),
        ],
    )
    def test_whatSomebodyHasToSeeToIsSaidAndNotTriedAgain(
        self, systemd: Booted, configuration: str, reason: str
    ) -> None:
        dropIn(systemd, "punchd-server", "[Service]\nRestartSec=100ms\n")
        systemd.write("/etc/punchd/server.toml", configuration)
        since = systemd.run("date", "+%F %T.%6N").stdout.strip()
        assert systemd.systemctl("start", "punchd-server", check=False).returncode == 1
        time.sleep(0.3)
        facts = systemd.show("punchd-server", "ActiveState", "Result", "NRestarts")
        assert facts == {"ActiveState": "failed", "Result": "exit-code", "NRestarts": "0"}
        errors = systemd.journal("--unit=punchd-server", "--priority=err", f"--since={since}")
        assert [line for line in errors.splitlines() if reason in line], errors

    def test_aFolderOfSomebodyElsesIsMadeItsOwn(self, systemd: Booted) -> None:
        """
        Such as one from before, when root ran it.
        """
        startServer(systemd)
        systemd.systemctl("stop", "punchd-server")
        systemd.run("chown", "-R", "root:root", "/var/lib/private/punchd-server")
        startServer(systemd)

    def test_aLowPortTakesTheDropIn(self, systemd: Booted) -> None:
        dropIn(systemd, "punchd-server", (EXAMPLES / "low-ports.conf").read_text("utf-8"))
        systemd.write("/etc/punchd/server.toml", SERVER + 'zone = "peers.example.org"\n')
        startServer(systemd)
        assert soaOf(systemd, "+notcp")
        assert soaOf(systemd, "+tcp")
        pid = systemd.show("punchd-server", "MainPID")["MainPID"]
        status = systemd.read(f"/proc/{pid}/status")
        # That one alone: the tenth bit.
        assert re.search(r"^CapEff:\s0+400$", status, re.MULTILINE)

    def test_aCertificateIsReadByItsGroup(self, systemd: Booted) -> None:
        make = (
            "cd /tmp && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
            "-keyout privkey.pem -out fullchain.pem -days 30 -subj /CN=server.example.org "
            "-addext subjectAltName=DNS:server.example.org && groupadd --system punchd-tls && "
            "install -d -g punchd-tls -m 0750 /etc/punchd/tls && "
            "install -g punchd-tls -m 0640 fullchain.pem privkey.pem /etc/punchd/tls"
        )
        systemd.run("sh", "-c", make)
        dropIn(systemd, "punchd-server", (EXAMPLES / "tls.conf").read_text("utf-8"))
        systemd.write("/etc/punchd/server.toml", (EXAMPLES / "tls.toml").read_text("utf-8"))
        assert startServer(systemd).startswith("server.example.org:7761#")


def acquaint(systemd: Booted, name: str, other: str, beside: Beside) -> None:
    """
    Let the peer in the unit, which has never run, and another one trust each other.
    """
    folder = StateFolder.at(str(systemd.root / "var/lib/punchd-peer"))
    for one, whom, its in ((folder, other, beside.folder), (beside.folder, name, folder)):
        Pins.inFolder(one).trust(whom, Identity.inFolder(its).peerID)


def statusOf(systemd: Booted) -> str:
    """
    What the peer in the unit says of itself.
    """
    return systemd.show("punchd-peer", "StatusText")["StatusText"]


def soaOf(systemd: Booted, *options: str) -> list[str]:
    command = ("dig", "@127.0.0.1", "+short", "+tries=1", "+time=10", *options)
    return systemd.run(*command, "peers.example.org", "SOA").stdout.splitlines()


class TestSockets(Cleaned):
    def test_theDNSListensWithoutACapability(self, systemd: Booted) -> None:
        dropIn(systemd, "punchd-server", (EXAMPLES / "dns-sockets.conf").read_text("utf-8"))
        configuration = (EXAMPLES / "dns.toml").read_text("utf-8")
        systemd.write("/etc/punchd/server.toml", configuration)
        startServer(systemd)
        assert soaOf(systemd, "+notcp")
        assert soaOf(systemd, "+tcp")
        pid = systemd.show("punchd-server", "MainPID")["MainPID"]
        status = systemd.read(f"/proc/{pid}/status")
        assert re.search(r"^CapEff:\s0+$", status, re.MULTILINE)
        # Who asks while it is away is answered when it is there again.
        systemd.systemctl("stop", "punchd-server")
        asking = subprocess.Popen(
            systemd.command(
                *("dig", "@127.0.0.1", "+short", "+tcp", "+tries=1", "+time=20"),
                *("peers.example.org", "SOA"),
            ),
            stdout=subprocess.PIPE,
            text=True,
        )
        out, _ = asking.communicate(timeout=30)
        assert out
        assert systemd.show("punchd-server", "ActiveState")["ActiveState"] == "active"

    def test_aPeerIsStartedByWhoConnects(self, systemd: Booted) -> None:
        join = startServer(systemd)
        dropIn(systemd, "punchd-peer", "[Service]\nSockets=punchd-peer-tcp@8080.socket\n")
        lines = (EXAMPLES / "forward.toml").read_text("utf-8").splitlines()
        [forward] = [line for line in lines if line.startswith("forward = ")]
        configurePeer(systemd, join, "alice", forward)
        bob = Beside(systemd, "bob", join, f"--expose=web=tcp:127.0.0.1:{WEB}")
        try:
            systemd.systemctl("start", "punchd-peer-tcp@8080.socket")
            acquaint(systemd, "alice", "bob", bob)
            bob.start()
            assert systemd.show("punchd-peer", "ActiveState") == {"ActiveState": "inactive"}
            page = systemd.run("curl", "-sS", "--max-time", "20", "http://127.0.0.1:8080/hello")
            assert page.stdout == "hello"
            systemd.waitFor(lambda: "links: bob " in statusOf(systemd), "linked")
            assert systemd.show("punchd-peer", "ActiveState") == {"ActiveState": "active"}
        finally:
            bob.close()


def startSshd(systemd: Booted) -> None:
    """
    On port 2200, for root with a key.
    """
    make = (
        "mkdir -p /tmp/ssh /run/sshd && cd /tmp/ssh && chmod 700 . && "
        "for each in host user; do ssh-keygen -q -t ed25519 -N '' -f $each; done && "
        'echo "[127.0.0.1]:2222 $(cat host.pub)" >known'
    )
    systemd.run("sh", "-c", make)
    options = (
        *("ListenAddress=127.0.0.1:2200", "HostKey=/tmp/ssh/host", "StrictModes=no", "UsePAM=no"),
        *("AuthorizedKeysFile=/tmp/ssh/user.pub", "PidFile=none", "PermitRootLogin=yes"),
    )
    command = f"/usr/sbin/sshd -D -f /dev/null {' '.join(f'-o{each}' for each in options)}"
    systemd.write(SSHD, f"[Service]\nExecStart={command}\n")
    systemd.systemctl("daemon-reload")
    systemd.systemctl("start", "peers-sshd")


@pytest.fixture(scope="class")
def alice(systemd: Booted) -> Iterator[Beside]:
    """
    Bob runs in the unit; Alice, who reaches his web site, does not.
    """
    join = startServer(systemd)
    exposed = f'expose = ["web=tcp:127.0.0.1:{WEB}", "ssh=tcp:127.0.0.1:2200"]'
    configurePeer(systemd, join, more=exposed)
    forwards = ("--forward=8080=bob/web", "--forward=2222=bob/ssh")
    alice = Beside(systemd, "alice", join, *forwards)
    startSshd(systemd)
    try:
        acquaint(systemd, "bob", "alice", alice)
        alice.start()
        systemd.systemctl("start", "punchd-peer")
        yield alice
    finally:
        alice.close()
        clean(systemd)


class TestThePeer:
    def test_itIsReadyWhenItIsLoggedIn(self, systemd: Booted, alice: Beside) -> None:
        facts = systemd.show("punchd-peer", "ActiveState", "StatusText")
        assert facts["ActiveState"] == "active"
        assert facts["StatusText"] == "connected to 127.0.0.1:7761; links: none"
        # So no one has to wait for it.
        page = systemd.run("curl", "-sS", "--max-time", "5", "http://127.0.0.1:8080/hello")
        assert page.stdout == "hello"

    def test_theKernelTellsItOfNetworks(self, systemd: Booted, alice: Beside) -> None:
        pid = systemd.show("punchd-peer", "MainPID")["MainPID"]
        listed = systemd.run("sh", "-c", f"ls -l /proc/{pid}/fd").stdout
        own = set(re.findall(r"socket:\[(\d+)\]", listed))
        head, *lines = systemd.read(f"/proc/{pid}/net/netlink").splitlines()
        sockets = [dict(zip(head.split(), line.split(), strict=True)) for line in lines]
        # Addresses and routes, of IPv4 and IPv6.
        assert [each["Groups"] for each in sockets if each["Inode"] in own] == ["00000550"]

    def test_rootMayTellItWhomToTrust(self, systemd: Booted, alice: Beside) -> None:
        punchd = "/opt/punchd/bin/punchd"
        for _ in range(2):
            systemd.run(punchd, "trust", "--state", "/var/lib/punchd-peer", "carol", "0" * 64)
            # The second time, when it does not run.
            systemd.systemctl("stop", "punchd-peer")
        systemd.systemctl("start", "punchd-peer")
        pins = systemd.run(punchd, "pins", "--state", "/var/lib/punchd-peer").stdout
        assert "carol" in pins

    def download(self, systemd: Booted) -> subprocess.Popen[str]:
        """
        One that takes three seconds, and has begun.
        """
        process = subprocess.Popen(
            systemd.command(
                *("curl", "-sS", "--limit-rate", str(RATE), "--max-time", "20", "-o", "/dev/null"),
                *("-w", "%{size_download}", "http://127.0.0.1:8080/large"),
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        systemd.waitFor(lambda: "1 streams" in statusOf(systemd), "busy")
        return process

    def test_whatRunsFinishesWhenItIsStopped(self, systemd: Booted, alice: Beside) -> None:
        systemd.systemctl("restart", "punchd-peer")
        download = self.download(systemd)
        systemd.systemctl("stop", "--no-block", "punchd-peer")
        systemd.waitFor(lambda: "has 5 s to finish" in statusOf(systemd), "draining")
        # Whoever comes now is turned away, and not kept waiting.
        late = systemd.run(
            "curl", "-sS", "--max-time", "5", "http://127.0.0.1:8080/hello", check=False
        )
        assert late.returncode not in (0, 28), late.stderr
        out, err = download.communicate(timeout=20)
        assert (download.returncode, out, err) == (0, str(LARGE), "")
        systemd.waitFor(
            lambda: systemd.show("punchd-peer", "ActiveState") == {"ActiveState": "inactive"},
            "over",
        )
        assert systemd.show("punchd-peer", "Result") == {"Result": "success"}

    def test_aSessionOfSshFinishes(self, systemd: Booted, alice: Beside) -> None:
        systemd.systemctl("restart", "punchd-peer")
        systemd.waitFor(lambda: statusOf(systemd).startswith("connected"), "connected")
        options = ["-oUserKnownHostsFile=/tmp/ssh/known", "-oBatchMode=yes", "-i/tmp/ssh/user"]
        command = "echo one; sleep 1; echo two"
        session = subprocess.Popen(
            systemd.command("ssh", "-p2222", *options, "root@127.0.0.1", command),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert session.stdout is not None
        assert session.stdout.readline() == "one\n"
        systemd.systemctl("stop", "punchd-peer")
        out, err = session.communicate(timeout=20)
        assert (session.returncode, out, err) == (0, "two\n", "")

    def test_whatDoesNotFinishInTimeIsBroken(self, systemd: Booted, alice: Beside) -> None:
        configuration = systemd.read("/etc/punchd/peer.toml")
        systemd.write("/etc/punchd/peer.toml", f"{configuration}drain = 1\n")
        systemd.systemctl("restart", "punchd-peer")
        systemd.run("truncate", f"--size={LARGE * 100}", "/tmp/web/large")
        try:
            download = self.download(systemd)
            began = time.monotonic()
            systemd.systemctl("stop", "punchd-peer")
            took = time.monotonic() - began
            download.communicate(timeout=5)
        finally:
            systemd.run("truncate", f"--size={LARGE}", "/tmp/web/large")
        assert 1 <= took < 4
        # Not an end that could be taken for that of the file; and at once, not when alice has
        # waited for bob to come back.
        assert download.returncode != 0
        assert systemd.show("punchd-peer", "Result") == {"Result": "success"}


class TestACommandOnChanges(Cleaned):
    def test_nginxHearsOfItByAnotherUnit(self, systemd: Booted) -> None:
        """
        As the howto says. Nothing is published on this network without routers, so the command is
        told where the service is.
        """
        recipes = ROOT / "docs/examples/on-change"
        recipe = "/usr/local/bin/nginx-upstream.sh"
        systemd.write(recipe, (recipes / "nginx-upstream.sh").read_text())
        systemd.run("chmod", "755", recipe)
        for name in ("nginx-upstreams.path", "nginx-upstreams.service"):
            systemd.write(f"/etc/systemd/system/{name}", (recipes / name).read_text())
        dropIn(systemd, "punchd-server", (recipes / "nginx-upstreams.conf").read_text())
        upstreams = "/var/lib/punchd-server/upstreams"
        told = f"PUNCHD_ADDRESS=127.0.0.1 PUNCHD_SERVICES=web={WEB}"
        command = f"env {told} {recipe} {upstreams} bob/web"
        systemd.write("/etc/punchd/server.toml", f'{SERVER}on-change = "{command}"\n')
        join = startServer(systemd)
        systemd.run(
            *("sh", "-ec"),
            f"cd /var/lib/punchd-server; mkdir upstreams; {recipe} upstreams bob/web\n"
            "chown -R --reference=. upstreams",
        )
        systemd.write(
            "/etc/nginx/conf.d/bob.conf",
            (recipes / "bob.conf")
            .read_text()
            .replace("/etc/nginx/upstreams", upstreams)
            .replace("listen 80", "listen 127.0.0.1:8888"),
        )
        systemd.run("mkdir", "/var/log/nginx", "/var/lib/nginx")
        systemd.systemctl("start", "nginx", "nginx-upstreams.path")

        def get() -> str:
            url = "http://127.0.0.1:8888/hello"
            return systemd.run("curl", "-sS", "--max-time", "5", url, check=False).stdout

        assert "502" in get()
        bob = Beside(systemd, "bob", join)
        bob.start()
        systemd.waitFor(lambda: get() == "hello", "served")
        bob.close()
        systemd.systemctl("stop", "nginx", "nginx-upstreams.path")
        assert "it will be tried again" not in systemd.journal("--unit=punchd-server")
