"""
Writing at once, and much.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.tcp import Connection

#: Bytes that are given to the system at a time, at most.
MOST = 1024 * 1024


def writeLargely(transport: object) -> None:
    """
    Let a TCP or UNIX transport give the system at a time what it takes. By itself it gives 128 KiB,
    and the rest in a further turn of the reactor, or in two, even where the system would take it.
    """
    if isinstance(transport, Connection):
        transport.SEND_LIMIT = MOST


def writeAtOnce(transport: Any, data: bytes | memoryview) -> None:
    """
    Write. What the system takes now goes out now, without a copy, and without the turn of the
    reactor and the two system calls that a transport takes to find out that its socket can be
    written to. Transports that are no TCP or UNIX connections write as they do.

    @param data: memory that may hold something else as soon as this returns.
    """
    if (
        isinstance(transport, Connection)
        and transport.connected
        and not transport.disconnecting
        # What waits goes first (Twisted has two buffers, and no public word for the second).
        and not transport.dataBuffer
        and not transport._tempDataBuffer
    ):
        sent = transport.writeSomeData(data)  # type: ignore[arg-type]
        # Where it fails the transport will see so, too, and tell everybody.
        if isinstance(sent, int) and sent > 0:
            if sent == len(data):
                return
            data = memoryview(data)[sent:]
    transport.write(bytes(data))


def dropUnsent(transport: object) -> None:
    """
    Let go of what a connection that is lost has not sent. Twisted keeps it with the transport,
    which holds others that hold it: only the collector of garbage finds it, after very many more.
    """
    if isinstance(transport, Connection):
        transport.dataBuffer = b""
        transport._tempDataBuffer = []
