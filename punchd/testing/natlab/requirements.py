"""
What a machine needs before it can carry a NAT lab.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import attrs


@attrs.frozen
class Missing:
    """
    Something that the lab needs and does not find here.

    @ivar what: The thing.
    @ivar remedy: What to do about it.
    """

    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what} ({self.remedy})"


class LabUnavailable(Exception):
    """
    No NAT lab can be built on this machine.

    @ivar missing: Why not.
    """

    def __init__(self, missing: list[Missing]) -> None:
        self.missing = missing
        reasons = "; ".join(str(each) for each in missing)
        super().__init__(f"the NAT lab cannot run here: missing {reasons}")


# From linux/capability.h: namespaces and mounts need the one, links, routes
# and rules the other.  A container's root may lack either.
_CAP_NET_ADMIN = 12
_CAP_SYS_ADMIN = 21


def _capable() -> bool:
    """
    Whether this process may administer namespaces and networks.
    """
    status = Path("/proc/self/status").read_text()
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    wanted = 1 << _CAP_NET_ADMIN | 1 << _CAP_SYS_ADMIN
    return found is not None and int(found[1], 16) & wanted == wanted


def requirements() -> list[Missing]:
    """
    What is missing for a lab, everything at once; empty if one can be built.
    """
    if not sys.platform.startswith("linux"):
        return [Missing("Linux", "run it in a virtual machine with Linux")]
    missing = []
    if os.geteuid() != 0 or not _capable():
        missing.append(
            Missing(
                "root with CAP_NET_ADMIN and CAP_SYS_ADMIN",
                "use sudo, or docker run --privileged",
            )
        )
    for program, package in ("ip", "iproute2"), ("nft", "nftables"):
        if shutil.which(program) is None:
            missing.append(Missing(f"the program {program}", f"apt-get install {package}"))
    if not Path("/dev/net/tun").is_char_device():
        missing.append(
            Missing(
                "the device /dev/net/tun",
                "modprobe tun; mkdir -p /dev/net && mknod /dev/net/tun c 10 200",
            )
        )
    return missing


def lenderMissing() -> Missing:
    """
    What a lab with routers that lend ports needs in addition, where it is not there.
    """
    return Missing("the program miniupnpd", "apt-get install miniupnpd-nftables")
