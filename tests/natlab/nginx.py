"""
A real nginx on a host of the lab, with the configuration files of the manual.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from typing import Final

from punchd.testing.natlab import Host

EXAMPLES: Final = Path(__file__).parents[2] / "docs/examples/proxy"

_MODULE: Final = Path("/usr/lib/nginx/modules/ngx_stream_module.so")

_CONFIGURATION = """\
load_module {module};
# Files are in a temporary folder, which is root's alone.
user root;
worker_processes 1;
daemon off;
pid {folder}/pid;
error_log {folder}/error.log info;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {inside}
}}
{beside}
"""


class Nginx:
    """
    Runs until its host does not.

    @ivar folder: temporary, with all that it writes; what the manual has in C{/var/log/nginx} and
        C{/etc/letsencrypt} is here.
    """

    def __init__(
        self, host: Host, folder: Path, *files: str, changes: dict[str, str] | None = None
    ) -> None:
        """
        @param files: names of the manual's configuration files. They are used as they are, but for
            where things are in the file system, and for C{changes}, from what to what.
        """
        self.folder = folder
        folder.mkdir(exist_ok=True)
        changes = {
            "/var/log/nginx": str(folder),
            "/etc/letsencrypt": str(folder),
            **(changes or {}),
        }
        inside: list[str] = []
        beside: list[str] = []
        for name in files:
            text = (EXAMPLES / name).read_text()
            for old, new in changes.items():
                text = text.replace(old, new)
            (beside if "\nstream {" in text else inside).append(text)
        configuration = folder / "nginx.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                folder=folder, module=_MODULE, inside="".join(inside), beside="".join(beside)
            )
        )
        program = shutil.which("nginx")
        assert program is not None
        with (folder / "log").open("wb") as log:
            self._process = host.popen(
                [program, "-c", str(configuration)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._awaitListening()

    def _awaitListening(self) -> None:
        errors = self.folder / "error.log"
        until = time.monotonic() + 10.0
        # It listens before it starts those that accept.
        while "start worker process" not in (said := errors.read_text() if errors.exists() else ""):
            assert self._process.poll() is None, (self.folder / "log").read_text() + said
            assert time.monotonic() < until, said
            time.sleep(0.02)

    def kill(self) -> None:
        """
        End it.
        """
        self._process.terminate()
        self._process.wait()
