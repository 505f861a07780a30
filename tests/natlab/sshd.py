"""
A real OpenSSH server on a host of the lab, and what its clients need.
"""

from __future__ import annotations

import getpass
import shutil
import subprocess
import time
from pathlib import Path

from punchd.testing.natlab import Host

_CONFIGURATION = """\
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile none
# Files in a temporary folder are below one that everybody may write to.
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
# All sessions come from one address, some of them at the same time.
MaxStartups 100
"""


class SSHServer:
    """
    Runs until its host does not.

    @ivar port: on the host's 127.0.0.1.
    """

    def __init__(self, host: Host, folder: Path, port: int = 2200) -> None:
        """
        @param folder: for keys and configuration.
        """
        self.host = host
        self.port = port
        self._folder = folder
        folder.mkdir()
        for name in ("host", "user"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True
            )
        hostKey = (folder / "host.pub").read_text()
        (folder / "known").write_text(f"server {hostKey}")
        configuration = folder / "sshd_config"
        configuration.write_text(_CONFIGURATION.format(port=port, folder=folder))
        # Where it shuts its unprivileged half in; packages make it when their service starts.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        # It starts itself anew for each session, and therefore wants to know where it is.
        program = shutil.which("sshd")
        assert program is not None
        with (folder / "log").open("wb") as log:
            self._process = host.popen(
                [program, "-D", "-e", "-f", configuration],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._awaitListening()

    def _awaitListening(self) -> None:
        until = time.monotonic() + 10.0
        while "Server listening" not in (said := (self._folder / "log").read_text()):
            assert self._process.poll() is None, said
            assert time.monotonic() < until, said
            time.sleep(0.02)

    def options(self, **more: str) -> list[str]:
        """
        What C{ssh}, C{scp} and C{sftp} need to get in, apart from the way.

        @param more: other options of C{ssh_config}.
        """
        chosen = {
            "User": getpass.getuser(),
            "IdentityFile": str(self._folder / "user"),
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": str(self._folder / "known"),
            "HostKeyAlias": "server",
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
            **more,
        }
        options = ["-F", "none"]
        for name, value in chosen.items():
            options += ["-o", f"{name}={value}"]
        return options
