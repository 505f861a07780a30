"""
Hearing at once that this host has come to other addresses or routes.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from typing import Any

from attrs import define
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

# From linux/rtnetlink.h: the groups that hear of addresses and of routes, IPv4's and IPv6's.
_GROUPS = 0x10 | 0x40 | 0x100 | 0x400

# One message is enough to know that there are some. What is left is read in the next turn.
_MOST_AT_ONCE = 64
_LENGTH = 65536


@implementer(IReadDescriptor)
@define(eq=False)
class _Kernel:
    """
    What the kernel tells of (rtnetlink(7)). What exactly it says does not matter: whoever hears it
    looks for himself.
    """

    _reactor: Any
    _socket: socket.socket
    _changed: Callable[[], None]

    def begin(self) -> None:
        self._reactor.addReader(self)

    def end(self) -> None:
        self._reactor.removeReader(self)
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def doRead(self) -> None:
        try:
            for _ in range(_MOST_AT_ONCE):
                self._socket.recv(_LENGTH)
        except OSError:
            # There is no more for now; or there was more than the socket holds, which tells enough.
            pass
        self._changed()

    def connectionLost(self, reason: Failure) -> None:
        self._socket.close()

    def logPrefix(self) -> str:
        return "routes"


def watchRoutes(reactor: Any, changed: Callable[[], None]) -> Callable[[], None]:
    """
    Call C{changed} whenever an address or a route of this host has come or gone, often several
    times for what a person would call one change. Where the system does not tell, nobody is called.

    @param reactor: an L{IReactorFDSet<twisted.internet.interfaces.IReactorFDSet>}.
    @return: to be called when nobody wants to know any more.
    """
    # A reactor may have a network of its own, such as that of punchd.testing.internet.
    if not sys.platform.startswith("linux") or hasattr(reactor, "makeSocket"):
        return _nothing
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    try:
        listening = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
    except OSError:
        # Not allowed here, or there are no more files.
        return _nothing
    try:
        listening.bind((0, _GROUPS))
    except OSError:
        listening.close()
        return _nothing
    kernel = _Kernel(reactor, listening, changed)
    kernel.begin()
    return kernel.end


def _nothing() -> None:
    pass
