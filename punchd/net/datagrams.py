"""
UDP ports for a question and its answer, without the two lines in the log that each of Twisted's own
brings: some are opened every minute for as long as a peer runs.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.internet.protocol import DatagramProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

#: Bytes that are taken of one datagram, and datagrams at a time.
_LONGEST = 8192
_AT_A_TIME = 32


@define(eq=False)
class Datagrams:
    """
    What of a reactor a protocol for datagrams needs.
    """

    _reactor: Any

    def seconds(self) -> float:
        """
        The time, as of an C{IReactorTime}.
        """
        now: float = self._reactor.seconds()
        return now

    def callLater(self, delay: float, call: Callable[..., Any], *arguments: Any) -> IDelayedCall:
        """
        As of an C{IReactorTime}.
        """
        later: IDelayedCall = self._reactor.callLater(delay, call, *arguments)
        return later

    def listenUDP(self, port: int, protocol: DatagramProtocol) -> None:
        """
        As of an C{IReactorUDP}.

        @raise CannotListenError: when there is no such port.
        @raise OSError: when the protocol cannot start with it; it is closed then.
        """
        try:
            bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            raise CannotListenError("", port, error) from None
        try:
            bound.bind(("", port))
        except OSError as error:
            bound.close()
            raise CannotListenError("", port, error) from None
        opened = _Port(self._reactor, protocol, bound)
        try:
            self._reactor.addReader(opened)
            protocol.makeConnection(opened)  # type: ignore[arg-type]
        except BaseException:
            opened.stopListening()
            raise


@implementer(IReadDescriptor)
@define(eq=False)
class _Port:
    """
    One port: the transport of its protocol.
    """

    _reactor: Any
    _protocol: DatagramProtocol
    _socket: socket.socket
    _isOpen: bool = field(default=True, init=False)

    def fileno(self) -> int:
        return self._socket.fileno() if self._isOpen else -1

    def logPrefix(self) -> str:
        return "UDP"

    def connect(self, host: str, port: int) -> None:
        """
        Take datagrams from there alone, and hear when nobody is there.
        """
        self._socket.connect((host, port))

    def write(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """
        @raise OSError: when the way there is none.
        """
        if not self._isOpen:
            return
        try:
            self._socket.sendto(datagram, addr)
        except BlockingIOError:
            # As if the network had lost it.
            return
        except ConnectionRefusedError:
            self._protocol.connectionRefused()

    def doRead(self) -> None:
        for _ in range(_AT_A_TIME):
            if not self._isOpen:
                return
            try:
                datagram, addr = self._socket.recvfrom(_LONGEST)
            except BlockingIOError:
                return
            except OSError:
                # An ICMP error for what was sent.
                self._protocol.connectionRefused()
                return
            self._protocol.datagramReceived(datagram, addr)

    def connectionLost(self, reason: Failure) -> None:
        """
        The reactor takes an ICMP error for the end of the port.
        """
        self.stopListening()
        self._protocol.connectionRefused()

    def stopListening(self) -> None:
        """
        Close it. Harmless when repeated.
        """
        if self._isOpen:
            self._reactor.removeReader(self)
            self._isOpen = False
            self._socket.close()
