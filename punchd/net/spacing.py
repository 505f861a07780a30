"""
How what is sent is spaced.
"""

from __future__ import annotations

import socket
from contextlib import suppress

from twisted.internet.tcp import Connection

#: Seconds of a round trip below which timers are too coarse to space what is sent.
NEAR = 0.002

# Linux's. The congestion control that spaces by a timer, and the usual one.
_OPTION: int | None = getattr(socket, "TCP_CONGESTION", None)
_SPACING = b"bbr"
_USUAL = b"cubic"
_LONGEST_NAME = 16


def spaceLess(transport: object) -> None:
    """
    Let a TCP connection to somebody L{NEAR} wait less for timers, where the system's congestion
    control (tcp(7), C{TCP_CONGESTION}) is one that spaces all packets by one: BBR. Spaces are tens
    of microseconds here, and in a virtual machine a timer may be late by ten milliseconds, in which
    everything on the connection waits. Another choice of whoever runs the system stays, and so do
    other transports.
    """
    if _OPTION is None or not isinstance(transport, Connection):
        return
    handle = transport.getHandle()
    # It fails when the connection is gone, or where the usual one is not allowed.
    with suppress(OSError):
        used = handle.getsockopt(socket.IPPROTO_TCP, _OPTION, _LONGEST_NAME)
        if used.startswith(_SPACING):
            handle.setsockopt(socket.IPPROTO_TCP, _OPTION, _USUAL)
