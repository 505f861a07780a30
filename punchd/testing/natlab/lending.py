"""
A router that lends ports: the real C{miniupnpd}, in the router's namespace.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Collection
from pathlib import Path
from typing import Any

from punchd.testing.natlab.hosts import Router
from punchd.testing.natlab.namespaces import LabError
from punchd.testing.natlab.rules import LAN, WAN

PROTOCOLS = ("pcp", "nat-pmp", "upnp")
"""All that a router can be asked by."""

_TABLE = "lends"
_PATIENCE = 5.0
_PAUSE = 0.01

# Of PCP (RFC 6887, 7.1) and NAT-PMP (RFC 6886, 3), which share a port: the first byte.
_VERSIONS = {"pcp": 2, "nat-pmp": 0}
_PORT = 5351
_SSDP_PORT = 1900


def _rules(protocols: Collection[str]) -> str:
    """
    The chains that the program fills, and who is kept from it.

    The lab's own chains let in what is translated here; and these come before them.
    """
    refused = [
        f"iifname {LAN} udp dport {_PORT} @th,64,8 {version} reject"
        for protocol, version in _VERSIONS.items()
        if protocol not in protocols
    ]
    lines = [
        "chain ports { }",
        "chain ports_in { }",
        "chain ports_out { }",
        "chain prerouting { type nat hook prerouting priority dstnat - 5; jump ports_in; }",
        "chain postrouting { type nat hook postrouting priority srcnat - 5; jump ports_out; }",
        "chain input { type filter hook input priority filter - 5;",
        *refused,
        "}",
    ]
    return f"table inet {_TABLE} {{\n" + "\n".join(lines) + "\n}\n"


class Lender:
    """
    The C{miniupnpd} of one router. The lab makes it, and ends it with the router.
    """

    def __init__(self, router: Router, lan: str, protocols: Collection[str]) -> None:
        """
        @param lan: the first three bytes of the LAN's addresses.
        @param protocols: of L{PROTOCOLS}, those by which it lends ports.
        """
        unknown = set(protocols) - set(PROTOCOLS)
        if unknown or not protocols:
            raise ValueError(f"a router is asked by some of {', '.join(PROTOCOLS)}: {unknown}")
        self._router = router
        self._lan = lan
        self._protocols = frozenset(protocols)
        self._process: subprocess.Popen[Any] | None = None
        self._folder = Path(tempfile.mkdtemp(prefix="punchd-lender-"))

    def start(self) -> None:
        """
        Begin to lend, with nothing lent; returns when it answers.

        @raise LabError: when it does not.
        """
        if self._process is not None:
            raise ValueError("it is running")
        configuration = self._folder / "miniupnpd.conf"
        configuration.write_text(self._configuration())
        self._router.run(["nft", "-f", "-"], input=_rules(self._protocols))
        log = self._folder / "log"
        with log.open("wb") as output:
            self._process = self._router.popen(
                ["miniupnpd", "-d", "-f", configuration, "-P", self._folder / "pid"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        ports = {_SSDP_PORT} if "upnp" in self._protocols else set()
        ports |= {_PORT} if self._protocols & _VERSIONS.keys() else set()
        patience = time.monotonic() + _PATIENCE
        while not ports <= self._listening():
            if self._process.poll() is not None or time.monotonic() > patience:
                raise LabError(f"miniupnpd does not run: {log.read_text(errors='replace')[-1000:]}")
            time.sleep(_PAUSE)

    def _listening(self) -> set[int]:
        """
        The UDP ports that somebody has in the router.
        """
        assert self._process is not None
        try:
            lines = Path(f"/proc/{self._process.pid}/net/udp").read_text().splitlines()[1:]
        except OSError:
            return set()
        return {int(line.split()[1].rpartition(":")[2], 16) for line in lines}

    def _configuration(self) -> str:
        settings = {
            "ext_ifname": WAN,
            "listening_ip": LAN,
            "port": 0,
            "enable_natpmp": "yes" if self._protocols & _VERSIONS.keys() else "no",
            "enable_upnp": "yes" if "upnp" in self._protocols else "no",
            "min_lifetime": 2,
            "secure_mode": "yes",
            "system_uptime": "no",
            "upnp_table_name": _TABLE,
            "upnp_nat_table_name": _TABLE,
            "upnp_forward_chain": "ports",
            "upnp_nat_chain": "ports_in",
            "upnp_nat_postrouting_chain": "ports_out",
            "uuid": uuid.uuid4(),
        }
        lines = [f"{name}={value}" for name, value in settings.items()]
        lines += [f"allow 1024-65535 {self._lan}.0/24 1-65535", "deny 0-65535 0.0.0.0/0 0-65535"]
        return "\n".join(lines) + "\n"

    @property
    def isLending(self) -> bool:
        """
        Whether it runs.
        """
        return self._process is not None

    def lent(self) -> str:
        """
        The rules that let strangers in, as nftables shows them.
        """
        return self._router.run(["nft", "list", "chain", "inet", _TABLE, "ports_in"]).stdout

    def stop(self) -> None:
        """
        End it, and forget what was lent. Harmless when repeated.
        """
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        self._router.run(["nft", "delete", "table", "inet", _TABLE])

    def restart(self) -> None:
        """
        As after a power cut: it has forgotten everything.
        """
        self.stop()
        self.start()

    def close(self) -> None:
        """
        Remove its folder; the process ends with those of the router.
        """
        shutil.rmtree(self._folder, ignore_errors=True)
