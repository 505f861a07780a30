"""
Reading much at a time.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.tcp import Connection

from punchd.net.gathering import Gathering

#: Bytes that are read at a time, at most: 32 full TLS records (RFC 8446, 5.2), which is what the
#: other end writes at once. What a read costs beside its bytes is most of what small reads cost;
#: with more, others would wait longer.
MOST = 32 * (16384 + 22)

# What all connections read into, one after the other, so that nothing is allocated for a read.
_READ = memoryview(bytearray(MOST))


def readLargely(
    transport: object, take: Callable[[memoryview], None], clock: IReactorTime
) -> Gathering | None:
    """
    Let a TCP transport give what it reads to C{take} instead of to its protocol, more at a time,
    and less often when much comes. Other transports stay as they are.

    @param take: gets a view of memory that holds something else as soon as it returns.
    @return: how much the system gathers; C{None} for other transports.
    """
    if not isinstance(transport, Connection):
        return None
    handle = transport.getHandle()
    gathering = Gathering(clock, handle)

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
        gathering.read(count)
        take(_READ[:count])
        return None

    setattr(transport, "doRead", doRead)  # noqa: B010
    return gathering
