"""
The TCP of one host: its ports, who listens, and which four-tuples are in use.
"""

from __future__ import annotations

import errno
import os
from random import Random
from typing import TYPE_CHECKING
from typing import Protocol as Typing

from attrs import define, field
from twisted.internet.interfaces import IReactorTime

from punchd.testing.internet.connections import Connection
from punchd.testing.internet.segments import HOPS, Complaint, Packet, Segment
from punchd.values.addresses import Address

if TYPE_CHECKING:
    from punchd.testing.internet.sockets import Socket

#: Where a host finds ports for those who do not mind which (RFC 6056; Linux's default).
EPHEMERAL = range(32768, 61000)


class Uplink(Typing):
    """
    What a host or a router sends to: a LAN, a router, or the public network.
    """

    def outward(self, packet: Packet) -> None:
        """Bring it to where it is addressed to."""


def failure(number: int) -> OSError:
    """
    What a system call fails with.
    """
    return OSError(number, os.strerror(number))


@define(eq=False)
class Stack:
    """
    The kernel of one host, as far as it concerns TCP.

    @ivar hosts: the host's own addresses, the one that it uses by itself first.
    @ivar sockets: those that are open, bound or not.
    @ivar dialled: how many SYNs went out, repeated ones not counted.
    @ivar packets: how many packets went out.
    @ivar mostHalfOpen: how many SYNs at a time were without an answer, at most.
    """

    name: str
    hosts: tuple[str, ...]
    clock: IReactorTime
    random: Random
    uplink: Uplink
    sockets: dict[Socket, None] = field(factory=dict, init=False)
    dialled: int = field(default=0, init=False)
    packets: int = field(default=0, init=False)
    mostHalfOpen: int = field(default=0, init=False)
    _halfOpen: set[Connection] = field(factory=set, init=False)
    _connections: dict[tuple[Address, Address], Connection] = field(factory=dict, init=False)

    # For sockets.

    def hostFor(self, remote: str) -> str:
        """
        The own address that a connection to C{remote} comes from.

        @raise OSError: when the host has none of that family.
        """
        isIPv6 = ":" in remote
        for host in self.hosts:
            if (":" in host) == isIPv6:
                return host
        raise failure(errno.ENETUNREACH)

    def takePort(self, socket: Socket, host: str, wanted: int) -> int:
        """
        The port that C{socket} is bound to: a certain one, or with 0 any free one.

        @param host: the address to bind it at; empty for all.
        @raise OSError: when it belongs to somebody who does not share it.
        """
        if not wanted:
            taken = {one.port for one in self.sockets}
            port = self.random.choice(EPHEMERAL)
            while port in taken:
                port = self.random.choice(EPHEMERAL)
            return port
        for other in self.sockets:
            if other.port != wanted or other is socket or other.family != socket.family:
                continue
            if host and other.host not in ("", host):
                continue
            if not (other.sharesPort and socket.sharesPort):
                raise failure(errno.EADDRINUSE)
            # The rest has been let in by this one.
            break
        return wanted

    def dial(self, socket: Socket, local: Address, remote: Address, hops: int = HOPS) -> Connection:
        """
        @raise OSError: when the four-tuple is in use.
        """
        if (local, remote) in self._connections:
            raise failure(errno.EADDRNOTAVAIL)
        connection = Connection(local, remote, self._number(), self.clock, self, hops=hops)
        connection.owner = socket
        self._connections[local, remote] = connection
        self.dialled += 1
        self._halfOpen.add(connection)
        self.mostHalfOpen = max(self.mostHalfOpen, len(self._halfOpen))
        connection.dial()
        return connection

    def unlisten(self, socket: Socket) -> None:
        """
        Nobody listens there any more: half-open connections go, without a word.
        """
        for connection in list(self._connections.values()):
            if connection.listener is socket and connection.owner is None:
                connection.drop()

    # For connections.

    def send(self, segment: Segment) -> None:
        """
        See L{Surroundings<punchd.testing.internet.connections.Surroundings>}.
        """
        self.packets += 1
        if segment.destination.host in self.hosts:
            self.clock.callLater(0, self.inward, segment)
        else:
            self.uplink.outward(segment)

    def forget(self, connection: Connection) -> None:
        """
        See L{Surroundings<punchd.testing.internet.connections.Surroundings>}.
        """
        del self._connections[connection.local, connection.remote]
        self._halfOpen.discard(connection)

    def opened(self, connection: Connection) -> None:
        """
        See L{Surroundings<punchd.testing.internet.connections.Surroundings>}.
        """
        self._halfOpen.discard(connection)
        if connection.listener is not None:
            connection.listener.arrived(connection)

    # From the wire.

    def inward(self, packet: Packet) -> None:
        """
        A packet for this host.
        """
        if isinstance(packet, Complaint):
            failed = self._connections.get((packet.about.source, packet.about.destination))
            if failed is not None:
                failed.complained(packet)
            return
        connection = self._connections.get((packet.destination, packet.source))
        if connection is not None:
            connection.arrived(packet)
        elif packet.opens and (listeners := self._listeners(packet.destination)):
            # The kernel shares SYNs among all who listen.
            listener = self.random.choice(listeners)
            self._answer(listener, packet)
        else:
            refusal = packet.refusal()
            if refusal is not None:
                self.send(refusal)

    def _listeners(self, local: Address) -> list[Socket]:
        return [one for one in self.sockets if one.listensAt(local)]

    def _answer(self, listener: Socket, segment: Segment) -> None:
        local, remote = segment.destination, segment.source
        connection = Connection(local, remote, self._number(), self.clock, self, listener)
        self._connections[local, remote] = connection
        connection.answer(segment)

    def _number(self) -> int:
        return self.random.getrandbits(31)
