"""
Other programs' tunnels between two hosts of the lab, to be measured beside punchd's.

What is not installed, or does not start, is told and left out. On Debian: C{openssh-server},
C{stunnel4}, C{haproxy}; C{conch} comes with C{twisted[conch]}; from PyPI, C{fowl} and
C{magic-wormhole-mailbox-server}, in one environment, any whose C{bin} is in C{PATH}.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from attrs import field, frozen

from punchd.testing.natlab import Host
from tests.benchmarks.cpu import cpuSeconds
from tests.benchmarks.openssh import OpenSSH

_TLS_PORTS = {"stunnel": 9440, "haproxy": 9441}


@frozen
class Tunnel:
    """
    A way from a port of one host's loopback to a service of another host.

    @ivar pids: of its processes at both ends, which may have children.
    """

    name: str
    address: str
    port: int
    pids: list[int] = field(factory=list)

    @property
    def cpu(self) -> float:
        """
        Seconds of processor time that it has taken so far.
        """
        return sum(map(cpuSeconds, self.pids))


@frozen
class Rivals:
    """
    Starts tunnels from a client's host to what listens on the loopback of a server's.

    @ivar folder: for their keys and configurations.
    """

    folder: Path
    client: Host
    server: Host
    ssh: OpenSSH

    def start(self, target: int) -> Iterator[Tunnel]:
        """
        Start all that are installed, toward port C{target}.
        """
        makers: list[tuple[list[str], Callable[[int], Tunnel]]] = [
            (["ssh", "/usr/sbin/sshd"], self._startSSH),
            (["stunnel", "openssl"], self._startStunnel),
            (["haproxy", "openssl"], self._startHaproxy),
            (["conch", "/usr/sbin/sshd"], self._startConch),
            (["fowl"], self._startFowl),
        ]
        for programs, make in makers:
            missing = [one for one in programs if _find(one) is None]
            if missing:
                print(f"not installed, so left out: {', '.join(missing)}", file=sys.stderr)
            else:
                try:
                    yield make(target)
                except RuntimeError as error:
                    print(f"did not start, so left out: {error}", file=sys.stderr)

    def _startSSH(self, target: int) -> Tunnel:
        daemon = self.ssh.serve(self.server)
        forward = f"9001:127.0.0.1:{target}"
        client = self.ssh.forward(self.client, self.server.address, "-L", forward)
        self.ssh.awaitForward(self.client, 9001)
        return Tunnel("ssh -L", "127.0.0.1", 9001, [client.pid, daemon.pid])

    def _startStunnel(self, target: int) -> Tunnel:
        port = _TLS_PORTS["stunnel"]
        common = "foreground = yes\npid =\ndebug = err\nsocket = l:TCP_NODELAY=1\n"
        common += "socket = r:TCP_NODELAY=1\n"
        there = self._write(
            "stunnel-server",
            f"{common}[one]\naccept = {self.server.address}:{port}\n"
            f"connect = 127.0.0.1:{target}\ncert = {self._certificate()}\n",
        )
        here = self._write(
            "stunnel-client",
            f"{common}[one]\nclient = yes\naccept = 127.0.0.1:9002\n"
            f"connect = {self.server.address}:{port}\n",
        )
        server = self.server.popen([_find("stunnel") or "", there])
        client = self.client.popen([_find("stunnel") or "", here])
        self.ssh.awaitForward(self.client, 9002)
        return Tunnel("stunnel", "127.0.0.1", 9002, [client.pid, server.pid])

    def _startHaproxy(self, target: int) -> Tunnel:
        port = _TLS_PORTS["haproxy"]
        common = "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n"
        common += "  timeout server 1h\nlisten one\n"
        there = self._write(
            "haproxy-server",
            f"{common}  bind {self.server.address}:{port} ssl crt {self._certificate()}\n"
            f"  server one 127.0.0.1:{target}\n",
        )
        here = self._write(
            "haproxy-client",
            f"{common}  bind 127.0.0.1:9003\n"
            f"  server one {self.server.address}:{port} ssl verify none\n",
        )
        server = self.server.popen([_find("haproxy") or "", "-db", "-q", "-f", there])
        client = self.client.popen([_find("haproxy") or "", "-db", "-q", "-f", here])
        self.ssh.awaitForward(self.client, 9003)
        return Tunnel("haproxy TLS", "127.0.0.1", 9003, [client.pid, server.pid])

    def _startConch(self, target: int) -> Tunnel:
        daemon = self.ssh.serve(self.server, 2223)
        known = self.ssh.knownHosts(self.server.address)
        client = self.client.popen(
            [
                *(_find("conch") or "", "-N", "-n", "-p", "2223", "-l", "root", "-a"),
                *("--host-key-algorithms", "ssh-ed25519", "--known-hosts", known),
                *("-i", self.ssh.userKey, "-L", f"9004:127.0.0.1:{target}", self.server.address),
            ],
            stdin=subprocess.DEVNULL,
        )
        self.ssh.awaitForward(self.client, 9004)
        return Tunnel("conch to sshd", "127.0.0.1", 9004, [client.pid, daemon.pid])

    def _startFowl(self, target: int) -> Tunnel:
        """
        Both ends are given the same code, as if one had read it out to the other, and find each
        other at a mailbox server on the server's host. That carries their handshake and addresses.
        """
        fowl = Path(_find("fowl") or "")
        port = 9442
        listen = f"tcp:{port}:interface={self.server.address}"
        self.server.popen(
            [
                *(fowl.with_name("twist"), "wormhole-mailbox"),
                *("--port", listen, "--channel-db", ":memory:"),
            ],
            stdout=subprocess.DEVNULL,
        )
        self.ssh.awaitListener(self.client, self.server.address, port)
        common = [str(fowl), "--no-logo", "--mailbox", f"ws://{self.server.address}:{port}/v1"]
        server, client = (
            host.popen([*common, *options, "7-sooner-later"], stdout=subprocess.DEVNULL)
            for host, *options in (
                (self.server, "--service", f"source:{target}"),
                (self.client, "--client", "source:9005"),
            )
        )
        self.ssh.awaitForward(self.client, 9005)
        return Tunnel("fowl", "127.0.0.1", 9005, [client.pid, server.pid])

    def _write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def _certificate(self) -> Path:
        """
        A key and its certificate in one file.
        """
        path = self.folder / "rival.pem"
        if not path.exists():
            key, certificate = self.folder / "rival.key", self.folder / "rival.crt"
            subprocess.run(
                [
                    *("openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"),
                    *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=rival"),
                    *("-keyout", key, "-out", certificate),
                ],
                check=True,
                capture_output=True,
            )
            path.write_text(key.read_text() + certificate.read_text())
        return path


def _find(program: str) -> str | None:
    # Where programs of this Python's environment are is not always searched.
    return shutil.which(program) or shutil.which(program, path=str(Path(sys.executable).parent))
