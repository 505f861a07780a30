"""
Sockets of the in-memory internet: what Twisted and punchd use of C{socket.socket}, with the same
errors.
"""

from __future__ import annotations

import errno
import socket as real
import struct
from itertools import count
from typing import Any

from punchd.testing.internet.connections import Connection, State
from punchd.testing.internet.segments import HOPS
from punchd.testing.internet.stacks import Stack, failure
from punchd.values.addresses import Address, makeAddress

# File descriptors that no real socket has.
_NUMBERS = count(1 << 24)

_ANY = {real.AF_INET: "0.0.0.0", real.AF_INET6: "::"}


class Socket:
    """
    A stream socket on a host of the in-memory internet, never blocking. Made by the host's
    reactor, and used up by L{close}, as a real one.

    @ivar port: the local port; 0 while it has none.
    @ivar host: the local address; empty while it is all of them.
    @ivar watcher: is told when something has happened to it.
    """

    def __init__(self, stack: Stack, family: int = real.AF_INET, connection: Any = None) -> None:
        self.family = family
        self.port = 0
        self.watcher: Any = None
        self._stack = stack
        self._number = next(_NUMBERS)
        self._options: dict[tuple[int, int], Any] = {}
        self.host = ""
        self._hops = HOPS
        self._connection: Connection | None = connection
        self._waiting: list[Connection] | None = None
        self._backlog = 0
        self._isClosed = False
        if connection is not None:
            connection.owner = self
            self.host, self.port = connection.local.host, connection.local.port
        stack.sockets[self] = None

    def __repr__(self) -> str:
        what = "listening" if self._waiting is not None else "bound"
        if self._connection is not None:
            what = f"{self._connection.state.name} to {self._connection.remote}"
        return f"<socket of {self._stack.name} on port {self.port}, {what}>"

    def fileno(self) -> int:
        return -1 if self._isClosed else self._number

    def setblocking(self, flag: bool) -> None:
        """
        It never blocks.
        """

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        self._options[level, option] = value
        if (level, option) == (real.IPPROTO_IP, real.IP_TTL):
            self._hops = value

    def getsockopt(self, level: int, option: int, length: int = 0) -> Any:
        if (level, option) == (real.SOL_SOCKET, real.SO_ERROR):
            return self._takeError()
        return self._options.get((level, option), bytes(length) if length else 0)

    @property
    def sharesPort(self) -> bool:
        """
        Whether others may use its port, who say the same.
        """
        options, level = self._options, real.SOL_SOCKET
        return bool(
            options.get((level, real.SO_REUSEADDR)) and options.get((level, real.SO_REUSEPORT))
        )

    @property
    def isDialling(self) -> bool:
        """
        Whether it waits for an answer to its SYN.
        """
        return self._connection is not None and self._connection.state in (
            State.SYN_SENT,
            State.SYN_RECEIVED,
        )

    # Ports.

    def bind(self, address: tuple[Any, ...]) -> None:
        host, port = address[:2]
        host = "" if host in _ANY.values() else host
        self.port = self._stack.takePort(self, host, port)
        self.host = host

    def getsockname(self) -> tuple[Any, ...]:
        host = self.host or _ANY[real.AddressFamily(self.family)]
        return _asTuple(makeAddress(host, self.port))

    def getpeername(self) -> tuple[Any, ...]:
        if self._connection is None:
            raise failure(errno.ENOTCONN)
        return _asTuple(self._connection.remote)

    # Listening.

    def listen(self, backlog: int) -> None:
        if not self.port:
            self.bind(("", 0))
        self._waiting, self._backlog = [], backlog

    def listensAt(self, local: Address) -> bool:
        """
        Whether a SYN for C{local} is for this socket.
        """
        return (
            self._waiting is not None
            and self.port == local.port
            and (self.family == real.AF_INET6) == (":" in local.host)
            and self.host in ("", local.host)
        )

    def arrived(self, connection: Connection) -> None:
        """
        A connection is open that came in here.
        """
        if self._waiting is None or len(self._waiting) >= self._backlog:
            connection.abort()
        else:
            self._waiting.append(connection)
            self.changed()

    def accept(self) -> tuple[Socket, tuple[Any, ...]]:
        if not self._waiting:
            raise failure(errno.EAGAIN)
        connection = self._waiting.pop(0)
        accepted = Socket(self._stack, self.family, connection)
        accepted._options.update(self._options)
        if self.watcher is not None:
            self.watcher.watch(accepted)
        return accepted, accepted.getpeername()

    # Connecting.

    def connect_ex(self, address: tuple[Any, ...]) -> int:
        if self._connection is not None:
            return errno.EALREADY if self.isDialling else errno.EISCONN
        remote = makeAddress(address[0], address[1])
        try:
            host = self.host or self._stack.hostFor(remote.host)
            if not self.port:
                self.bind(("", 0))
            local = makeAddress(host, self.port)
            self._connection = self._stack.dial(self, local, remote, self._hops)
        except OSError as error:
            return error.errno or errno.EINVAL
        self.host = host
        return errno.EINPROGRESS

    # The stream.

    def recv(self, size: int) -> bytes:
        connection = self._open()
        if connection.received:
            data, connection.received = connection.received[:size], connection.received[size:]
            return data
        if connection.error:
            raise failure(self._takeError())
        if connection.ended or connection.state is State.OVER:
            return b""
        raise failure(errno.EAGAIN)

    def recv_into(self, buffer: memoryview) -> int:
        data = self.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def send(self, data: bytes) -> int:
        connection = self._open()
        if connection.error:
            raise failure(self._takeError())
        if connection.state is State.OVER:
            raise failure(errno.EPIPE)
        connection.write(bytes(data))
        return len(data)

    def shutdown(self, how: int) -> None:
        self._open()
        if self._connection is not None and how in (real.SHUT_WR, real.SHUT_RDWR):
            self._connection.finish()

    def close(self) -> None:
        if self._isClosed:
            return
        self._isClosed = True
        del self._stack.sockets[self]
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._stack.unlisten(self)
            for one in waiting:
                one.abort()
        connection = self._connection
        if connection is None or connection.state is State.OVER:
            return
        connection.owner = None
        if connection.state is State.SYN_SENT:
            connection.drop()
        elif self._isHard or connection.received:
            connection.abort()
        else:
            connection.finish()

    @property
    def _isHard(self) -> bool:
        lingering = self._options.get((real.SOL_SOCKET, real.SO_LINGER))
        return lingering == struct.pack("ii", 1, 0)

    def _open(self) -> Connection:
        if self._connection is None:
            raise failure(errno.ENOTCONN)
        return self._connection

    def _takeError(self) -> int:
        if self._connection is None:
            return 0
        error, self._connection.error = self._connection.error, 0
        return error

    # Readiness, as epoll sees it.

    @property
    def isReadable(self) -> bool:
        if self._waiting is not None:
            return bool(self._waiting)
        connection = self._connection
        if connection is None:
            return False
        isOver = connection.state is State.OVER
        return bool(connection.received) or connection.ended or isOver

    @property
    def isWritable(self) -> bool:
        connection = self._connection
        return connection is not None and not self.isDialling

    def changed(self) -> None:
        """
        Something has happened to its connection.
        """
        if self.watcher is not None:
            self.watcher.changed(self)


def _asTuple(address: Address) -> tuple[Any, ...]:
    if ":" in address.host:
        return (address.host, address.port, 0, 0)
    return (address.host, address.port)
