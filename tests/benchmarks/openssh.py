"""
OpenSSH in the NAT lab: the rival that everybody has.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from punchd.testing.natlab import Host

_PORT = 2222


class OpenSSH:
    """
    Keys for one user, and sshd on hosts of the lab.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "openssh"
        self._folder.mkdir(mode=0o700)
        Path("/run/sshd").mkdir(exist_ok=True)
        for name in ("host", "user"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self._folder / name],
                check=True,
            )
        (self._folder / "authorized").write_bytes((self._folder / "user.pub").read_bytes())

    @property
    def userKey(self) -> Path:
        """
        What the user logs in with.
        """
        return self._folder / "user"

    def knownHosts(self, address: str) -> Path:
        """
        A file by which clients that insist on it know the host at C{address}.
        """
        path = self._folder / "known"
        path.write_text(f"{address} {(self._folder / 'host.pub').read_text()}")
        return path

    def serve(self, host: Host, port: int = _PORT) -> subprocess.Popen[bytes]:
        """
        Start sshd on a host, and wait until it listens.
        """
        config = self._folder / f"sshd-{host.name}-{port}"
        config.write_text(
            f"Port {port}\nHostKey {self._folder / 'host'}\nPidFile none\nStrictModes no\n"
            f"AuthorizedKeysFile {self._folder / 'authorized'}\nPermitRootLogin yes\n"
            "UsePAM no\nPasswordAuthentication no\n"
        )
        daemon: subprocess.Popen[bytes] = host.popen(["/usr/sbin/sshd", "-D", "-f", config])
        self.awaitListener(host, host.address, port)
        return daemon

    def forward(self, host: Host, server: str, *options: str) -> subprocess.Popen[bytes]:
        """
        Start a client that forwards (C{-L} or C{-R} in C{options}) over one session to C{server}.
        """
        client: subprocess.Popen[bytes] = host.popen(
            [
                *("ssh", "-N", "-p", str(_PORT), "-i", self.userKey),
                *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
                *("-o", "LogLevel=ERROR", "-o", "ExitOnForwardFailure=yes"),
                *options,
                f"root@{server}",
            ]
        )
        return client

    def awaitForward(self, host: Host, port: int) -> None:
        """
        Wait until something listens on a port of the host's loopback.
        """
        self.awaitListener(host, "127.0.0.1", port)

    def awaitListener(self, host: Host, address: str, port: int) -> None:
        """
        Wait until something listens on a port of an address, as seen from a host.
        """
        probe = f"import socket; socket.create_connection(({address!r}, {port}), 2).close()"
        for _ in range(50):
            if host.run(["python3", "-c", probe], check=False).returncode == 0:
                return
            time.sleep(0.1)
        raise RuntimeError(f"nothing listens on {address}:{port} of {host.name}")
