"""
Strangers' servers on a host of a lab: nginx, and BIND.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any, Final, Self

from punchd.testing.natlab import Host
from tests.natlab.patience import PATIENCE, until

#: The manual's.
RECIPES: Final = Path(__file__).parents[2] / "docs/examples/on-change"
ZONE: Final = "peers.example.org"


class _Daemon:
    """
    Runs from C{with} to its end, and may be ended and started again meanwhile.
    """

    def __init__(self, host: Host, folder: Path) -> None:
        self.host = host
        self.folder = folder
        folder.mkdir()
        self._process: subprocess.Popen[Any] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def isUp(self) -> bool:
        raise NotImplementedError

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = self.host.popen(self.command(), stdout=log, stderr=log)
        try:
            until(self.isUp, f"up: {self.command()[0]}")
        except AssertionError as error:
            error.add_note(self.log)
            raise

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE)
            self._process = None

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text("utf-8", "replace")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self.stop()


_NGINX = """
user root;
worker_processes 1;
daemon off;
pid {folder}/pid;
error_log {folder}/log notice;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    include {folder}/*.more;
    {site}
}}
"""


class Nginx(_Daemon):
    """
    An nginx on port 80, that leads to the upstream C{web.bob}.

    @ivar called: how it is called.
    @ivar upstreams: the folder from which it includes the upstreams.
    """

    def __init__(self, host: Host, folder: Path) -> None:
        super().__init__(host, folder)
        self.upstreams = folder / "upstreams"
        self.upstreams.mkdir()
        site = (RECIPES / "bob.conf").read_text().replace("/etc/nginx", str(folder))
        (folder / "conf").write_text(_NGINX.format(folder=folder, site=site))
        self.called = f"nginx -e {folder}/log -c {folder}/conf"

    def command(self) -> list[str]:
        return self.called.split()

    def isUp(self) -> bool:
        return (self.folder / "pid").exists() and "start worker process" in self.log

    @property
    def reloads(self) -> int:
        """
        How often it was told to read its configuration.
        """
        return self.log.count("signal 1 (SIGHUP) received")


_BIND = """
options {{
    directory "{folder}";
    listen-on {{ {address}; }};
    listen-on-v6 {{ none; }};
    pid-file none;
    recursion no;
    dnssec-validation no;
}};
controls {{ }};
{zone}
"""

_RECORDS = """$TTL 30
@ SOA ns hostmaster 1 3600 600 86400 30
@ NS ns
ns A {address}
"""


class Bind(_Daemon):
    """
    A BIND that serves the manual's zone, which may be updated with the key in the file C{key}.
    """

    def __init__(self, host: Host, folder: Path) -> None:
        super().__init__(host, folder)
        self.key = folder / "key"
        # Debian's AppArmor lets the program at its usual place read its usual files only.
        program = shutil.which("named")
        assert program is not None
        shutil.copy(program, folder / "named")
        text = (RECIPES / "zone.conf").read_text()
        text = text.replace("/etc/bind/punchd.key", str(self.key))
        text = text.replace("/var/lib/bind/peers.example.org", str(folder / "zone"))
        (folder / "conf").write_text(_BIND.format(folder=folder, address=host.address, zone=text))
        (folder / "zone").write_text(_RECORDS.format(address=host.address))
        self.key.write_text(host.run(["tsig-keygen", "punchd."]).stdout)

    def command(self) -> list[str]:
        return [f"{self.folder}/named", "-g", "-n", "1", "-c", f"{self.folder}/conf"]

    def isUp(self) -> bool:
        # The last one: it may have run before.
        return " running\n" in self.log.rpartition("starting BIND")[2]
