"""
One SYN, and what came back.

C{connect()} tells a reset from an ICMP message as little as a full mailbox tells who wrote: both
are "connection refused". On Linux the socket's error queue (C{IP_RECVERR}, ip(7)) has the ICMP
message itself, and the router that sent it, without any privilege. Elsewhere an ICMP message
counts as what C{connect()} makes of it.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from ipaddress import ip_address
from typing import Any

from attrs import define, field, frozen
from twisted.internet.address import IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReadWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from punchd.values.addresses import Address
from punchd.values.probes import Answer, Finding

# From linux/in.h, linux/in6.h and linux/errqueue.h; the socket module does not have them.
_IP_RECVERR = 11
_IPV6_RECVERR = 25
_ORIGIN_ICMP = (2, 3)
_EXTENDED_ERROR = struct.Struct("=IBBBBII")

# How "destination unreachable" and "time exceeded" are called in ICMP (RFC 792) and ICMPv6 (RFC
# 4443), and which codes of the former say that there is no way there: then nobody has refused.
_UNREACHABLE = {socket.AF_INET: 3, socket.AF_INET6: 1}
_EXCEEDED = {socket.AF_INET: 11, socket.AF_INET6: 3}
_NO_WAY = {socket.AF_INET: (0, 1), socket.AF_INET6: (0, 3)}

# A reset in the handshake; the latter two when SYNs have crossed.
_RESETS = (errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE)


@frozen
class Prober:
    """
    Sends SYNs, and looks at what comes back.
    """

    # IReactorFDSet and IReactorTime.
    _reactor: Any

    def probe(
        self, remote: Address, *, patience: float, here: str = "", hops: int | None = None
    ) -> Deferred[Finding]:
        """
        Dial C{remote} from a port that is nobody else's, once. A connection that opens is reset at
        once.

        @param patience: seconds after which there was no answer. The kernel repeats its SYN after
            one second, then again.
        @param here: the local address to dial from.
        @param hops: how many routers may pass it on.
        @return: never fails.
        """
        family = socket.AF_INET6 if isinstance(remote, IPv6Address) else socket.AF_INET
        # A reactor may have a network of its own, such as that of punchd.testing.internet.
        makeSocket = getattr(self._reactor, "makeSocket", socket.socket)
        try:
            dialling = makeSocket(family, socket.SOCK_STREAM)
        except OSError:
            return succeed(Finding(Answer.UNREACHABLE))
        try:
            _prepare(dialling, family, here, hops)
            status = dialling.connect_ex((remote.host, remote.port))
        except (OSError, OverflowError):
            status = errno.EADDRNOTAVAIL
        if status not in (0, errno.EINPROGRESS):
            dialling.close()
            answer = Answer.RESET if status in _RESETS else Answer.UNREACHABLE
            return succeed(Finding(answer))
        return _Syn(self._reactor, dialling, family, remote.host).begin(patience)


@implementer(IReadWriteDescriptor)
@define(eq=False)
class _Syn:
    """
    One socket that has sent a SYN, until it has an answer or its time is up.
    """

    _reactor: Any
    _socket: socket.socket
    _family: socket.AddressFamily
    _host: str
    _began: float = field(default=0.0, init=False)
    _found: Deferred[Finding] | None = field(default=None, init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)

    def begin(self, patience: float) -> Deferred[Finding]:
        self._began = self._reactor.seconds()
        self._timer = self._reactor.callLater(patience, self._finish, Answer.SILENCE)
        found: Deferred[Finding] = Deferred(lambda _: self._close())
        self._found = found
        self._reactor.addWriter(self)
        return found

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return "probe"

    def doRead(self) -> None:
        self._look()

    def doWrite(self) -> None:
        self._look()

    def connectionLost(self, reason: Failure) -> None:
        # How reactors say that the socket has an error. They have let go of it.
        self._look()
        self._finish(Answer.UNREACHABLE)

    def _look(self) -> None:
        if self._found is None:
            return
        # In this order: taking the last message out of the queue clears the error.
        status = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        message = self._icmp()
        if message is not None:
            self._finish(*message)
        elif status in _RESETS:
            self._finish(Answer.RESET)
        elif status == errno.ETIMEDOUT:
            self._finish(Answer.SILENCE)
        elif status:
            self._finish(Answer.UNREACHABLE)
        elif self._isConnected():
            self._finish(Answer.CONNECTED)

    def _isConnected(self) -> bool:
        try:
            self._socket.getpeername()
        except OSError:
            return False
        return True

    def _icmp(self) -> tuple[Answer, str] | None:
        """
        What an ICMP message says that is waiting, and who sent it.
        """
        if sys.platform != "linux":
            return None
        try:
            _, messages, _, _ = self._socket.recvmsg(0, 512, socket.MSG_ERRQUEUE)
        except OSError:
            return None
        for level, kind, content in messages:
            if (level, kind) in (
                (socket.IPPROTO_IP, _IP_RECVERR),
                (socket.IPPROTO_IPV6, _IPV6_RECVERR),
            ):
                return _meaning(self._family, content, self._host)
        return None

    def _finish(self, answer: Answer, router: str | None = None) -> None:
        found, self._found = self._found, None
        if found is not None:
            seconds = self._reactor.seconds() - self._began
            self._close()
            found.callback(Finding(answer, seconds, router))

    def _close(self) -> None:
        self._found = None
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._reactor.removeWriter(self)
        self._socket.close()


def _prepare(dialling: socket.socket, family: int, here: str, hops: int | None) -> None:
    dialling.setblocking(False)
    # Whoever accepted it is told at once that there is nothing to it, and no four-tuple waits.
    dialling.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    isIPv6 = family == socket.AF_INET6
    level = socket.IPPROTO_IPV6 if isIPv6 else socket.IPPROTO_IP
    if sys.platform == "linux":
        dialling.setsockopt(level, _IPV6_RECVERR if isIPv6 else _IP_RECVERR, 1)
    if hops is not None:
        dialling.setsockopt(level, socket.IPV6_UNICAST_HOPS if isIPv6 else socket.IP_TTL, hops)
    if here:
        dialling.bind((here, 0))


def _meaning(family: socket.AddressFamily, content: bytes, host: str) -> tuple[Answer, str] | None:
    """
    What an entry of the error queue says, and who; C{None} when it is no ICMP message.

    @param host: who was dialled.
    """
    if len(content) < _EXTENDED_ERROR.size:
        return None
    _, origin, kind, code, _, _, _ = _EXTENDED_ERROR.unpack_from(content)
    if origin not in _ORIGIN_ICMP:
        return None
    # A sockaddr_in or sockaddr_in6 follows.
    at = _EXTENDED_ERROR.size + (4 if family == socket.AF_INET else 8)
    packed = content[at : at + (4 if family == socket.AF_INET else 16)]
    if len(packed) not in (4, 16):
        return None
    router = str(ip_address(packed))
    if kind == _EXCEEDED[family]:
        return Answer.EXPIRED, router
    if kind == _UNREACHABLE[family] and (code not in _NO_WAY[family] or router == host):
        return Answer.ICMP, router
    return Answer.UNREACHABLE, router
