"""
Reading much at a time.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.tcp import Connection

#: Bytes that are read at a time, at most: sixteen full TLS records (RFC 8446, 5.2), which is what
#: the other end writes at once. What a read costs beside its bytes is most of what small reads
#: cost; with more, others would wait longer.
MOST = 16 * (16384 + 22)

# What all connections read into, one after the other, so that nothing is allocated for a read.
_READ = memoryview(bytearray(MOST))


def readLargely(transport: object, take: Callable[[memoryview], None]) -> None:
    """
    Let a TCP transport give what it reads to C{take} instead of to its protocol, more at a time.
    Other transports stay as they are.

    @param take: gets a view of memory that holds something else as soon as it returns.
    """
    if not isinstance(transport, Connection):
        return
    handle = transport.getHandle()

    # What the reactor calls, and what it wants to hear (IReadDescriptor).
    def doRead() -> Exception | None:
        try:
            count = handle.recv_into(_READ)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if not count:
            return CONNECTION_DONE
        take(_READ[:count])
        return None

    setattr(transport, "doRead", doRead)  # noqa: B010
