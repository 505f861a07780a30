"""
A local TCP port that is held for long and used for several sockets at once.

Every socket of the port is bound with C{SO_REUSEADDR} and C{SO_REUSEPORT}, so that a connection to
the server, attempts to reach a peer, and one listener can share it; a NAT that maps
endpoint-independently gives them all the same outside port.

A port is one of all IPv4 addresses of this host, or of a single IPv6 address: a host has several of
those, the kernel takes now this one and now that one for what it dials, and the other side's
firewall lets in only the one it knows.
"""

from __future__ import annotations

import socket
from typing import Any

from attrs import define, field
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IReactorTCP,
    IStreamClientEndpoint,
)
from twisted.internet.tcp import makeBinding

from punchd.errors import Unreachable
from punchd.values.addresses import Address

# A SYN that nothing answers costs a dialled socket nothing; whoever dials says when to give up.
_DIAL_TIMEOUT = 60.0


@define(eq=False)
class HeldPort:
    """
    Made by L{HeldPort.take}, held until L{HeldPort.close}.

    @ivar number: the port.
    @ivar acceptor: builds the protocols of connections that come in while somebody listens.
    @ivar token: what the server knows this port by, if it observed it through the assist service.
    @ivar observed: under which address it did.
    @ivar interface: the IPv6 address that the port is at; empty for all IPv4 addresses.
    """

    number: int
    acceptor: IProtocolFactory
    # IReactorTCP; its declared types know nothing of bindings yet.
    _reactor: Any
    _holder: socket.socket
    token: bytes | None = None
    observed: Address | None = None
    interface: str = ""
    _listener: IListeningPort | None = field(default=None, init=False)
    _listening: int = field(default=0, init=False)

    @classmethod
    def take(
        cls,
        reactor: IReactorTCP,
        acceptor: IProtocolFactory,
        number: int = 0,
        interface: str = "",
    ) -> HeldPort:
        """
        Take a free port.

        @param number: a certain one; 0 lets the kernel choose at random.
        @param interface: an IPv6 address of this host; by default, all of its IPv4 addresses.
        @raise Unreachable: when it cannot be had.
        """
        family = socket.AF_INET6 if interface else socket.AF_INET
        # A reactor may have a network of its own, such as that of punchd.testing.internet.
        makeSocket = getattr(reactor, "makeSocket", socket.socket)
        try:
            holder = makeSocket(family, socket.SOCK_STREAM)
        except OSError as error:
            raise _cannotTake(error) from None
        try:
            # Without these the bind below finds a port that nobody else uses at all; with them, the
            # sockets after it may join.
            if number:
                _makeReusable(holder)
            holder.bind((interface, number))
            _makeReusable(holder)
        except OSError as error:
            holder.close()
            raise _cannotTake(error) from None
        return cls(holder.getsockname()[1], acceptor, reactor, holder, interface=interface)

    def reaches(self, remote: Address) -> bool:
        """
        Whether C{remote} is of this port's family, so that one can dial the other.
        """
        return isinstance(remote, IPv6Address) == bool(self.interface)

    def to(self, remote: Address) -> IStreamClientEndpoint:
        """
        An endpoint that connects from this port to C{remote}.
        """
        make = TCP4ClientEndpoint if isinstance(remote, IPv4Address) else TCP6ClientEndpoint
        endpoint: IStreamClientEndpoint = make(
            self._reactor,
            remote.host,
            remote.port,
            timeout=_DIAL_TIMEOUT,
            bindAddress=self._binding(),
        )
        return endpoint

    def toHost(self, host: str, port: int, timeout: float) -> IStreamClientEndpoint:
        """
        An endpoint that looks C{host} up and connects from this port's number, by IPv6 or IPv4.
        """
        endpoint: IStreamClientEndpoint = HostnameEndpoint(
            self._reactor,
            host,
            port,
            timeout=timeout,
            bindAddress=makeBinding("", self.number, reuseAddress=True, reusePort=True),
        )
        return endpoint

    @property
    def isListening(self) -> bool:
        """
        Whether connections are accepted now.
        """
        return self._listener is not None

    def listen(self) -> None:
        """
        Accept connections until L{unlisten} was called as often as this. There is one listener,
        however many ask for it: two would share the SYNs between them.

        @raise twisted.internet.error.CannotListenError: when the port cannot be listened on.
        """
        if self._listener is None:
            self._listener = self._reactor.listenTCP(
                self._binding(),
                self.acceptor,
                backlog=64,
                # By which it tells the family.
                interface=self.interface,
            )
        self._listening += 1

    def unlisten(self) -> Deferred[None]:
        """
        Undo one L{listen}.
        """
        self._listening -= 1
        if self._listening > 0 or self._listener is None:
            return succeed(None)
        listener, self._listener = self._listener, None
        stopped = listener.stopListening()
        return succeed(None) if stopped is None else stopped

    def close(self) -> Deferred[None]:
        """
        Let go of the port. Connections made from it live on.
        """
        self._holder.close()
        self._listening = min(self._listening, 1)
        return self.unlisten()

    def _binding(self) -> Any:
        return makeBinding(self.interface, self.number, reuseAddress=True, reusePort=True)


def _cannotTake(error: OSError) -> Unreachable:
    return Unreachable(f"cannot take a local TCP port: {error.strerror}")


def _makeReusable(holder: socket.socket) -> None:
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
