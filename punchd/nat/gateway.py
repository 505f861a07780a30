"""
The default gateway: the router that may be asked for ports, and the only one.
"""

from __future__ import annotations

import errno
import socket
import sys
from pathlib import Path

from attrs import frozen

from punchd.errors import Unreachable

_ROUTES = Path("/proc/self/net/route")

#: From linux/route.h.
_UP = 0x1
_GATEWAY = 0x2

#: More lines than this are no host's routes.
_MOST_ROUTES = 4096


@frozen
class Gateway:
    """
    @ivar host: its IPv4 address.
    @ivar own: ours toward it.
    """

    host: str
    own: str


def defaultRoute(routes: str) -> str | None:
    """
    The gateway of the best default route.

    @param routes: as in C{/proc/self/net/route}: columns of hexadecimal numbers, addresses with
        their bytes in the host's order.
    """
    found: list[tuple[int, str]] = []
    for line in routes.splitlines()[1:_MOST_ROUTES]:
        columns = line.split()
        try:
            destination, gateway, flags = (int(columns[n], 16) for n in (1, 2, 3))
            metric, mask = int(columns[6]), int(columns[7], 16)
            host = socket.inet_ntoa(gateway.to_bytes(4, sys.byteorder))
        except (IndexError, ValueError, OverflowError):
            continue
        if destination == mask == 0 and flags & _UP and flags & _GATEWAY:
            found.append((metric, host))
    return min(found)[1] if found else None


def findGateway(routes: Path = _ROUTES) -> Gateway:
    """
    Where this host sends what is not for its own networks, now.

    @raise Unreachable: when there is no such router, or this system does not tell.
    @raise OSError: when nothing can be known now, because file descriptors have run out.
    """
    try:
        text = routes.read_text("ascii")
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise
        if error.errno == errno.ENOENT:
            raise Unreachable("cannot tell which router is ours on this system") from None
        raise Unreachable(f"cannot tell which router is ours: {error.strerror}") from None
    host = defaultRoute(text)
    if host is None:
        raise Unreachable("there is no default gateway")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Sends nothing; the kernel chooses our address.
            probe.connect((host, 9))
            own = probe.getsockname()[0]
        except OSError as error:
            raise Unreachable(f"no way to the default gateway {host}: {error.strerror}") from None
    return Gateway(host, own)
