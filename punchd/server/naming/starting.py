"""
How a server comes to have a zone: what its operator says, and what is made of that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, execute
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IReactorTime,
    IStreamServerEndpoint,
)
from zope.interface import implementer

from punchd.errors import ConfigurationError
from punchd.server.limits import Complaints
from punchd.server.naming.directory import Directory
from punchd.server.naming.responding import Responder
from punchd.server.naming.serving import MOST_QUESTION, NamingGate
from punchd.server.naming.zone import TTL, Zone
from punchd.server.sessions import Population

# udp:PORT, udp6:PORT, with an address in which colons have a backslash before them.
_DATAGRAMS = re.compile(r"udp(6?):([0-9]{1,5})(?::interface=((?:[0-9a-fA-F.]|\\:)+))?\Z")


@frozen
class Naming:
    """
    What the operator wants.

    @ivar zone: as L{checkedZone<punchd.server.naming.zone.checkedZone>} returns it.
    @ivar ttl: seconds that answers about peers may be kept.
    @ivar keep: seconds for which the last address of a peer is named after it has gone.
    """

    zone: str
    endpoints: Sequence[IStreamServerEndpoint]
    ttl: int = TTL
    keep: float = 0.0

    def makeGate(
        self,
        *,
        clock: IReactorTime,
        entropy: Callable[[int], bytes],
        population: Population,
        complaints: Complaints,
        hosts: Sequence[str],
    ) -> NamingGate:
        """
        What is to listen at C{endpoints}.

        @param hosts: names and literal addresses of the server.
        """
        directory = Directory(clock, self.keep)
        population.watchers.append(directory)
        zone = Zone(self.zone, directory.find, clock.seconds, hosts, self.ttl)
        return NamingGate(
            clock=clock,
            responder=Responder(clock, zone, entropy),
            directory=directory,
            complaints=complaints,
        )


@implementer(IStreamServerEndpoint)
@frozen
class DatagramEndpoint:
    """
    A UDP port for a L{NamingGate}, in the form of the endpoints for connections.

    @ivar interface: the address to listen at; empty for all of IPv4, C{::} for all of both.
    """

    _reactor: Any
    port: int
    interface: str = ""

    @classmethod
    def parse(cls, reactor: Any, text: str) -> DatagramEndpoint:
        """
        The endpoint that C{text} describes: C{udp:PORT} or C{udp6:PORT}, and C{:interface=ADDRESS}
        behind it.

        @raise ConfigurationError: when it is of another form.
        """
        found = _DATAGRAMS.match(text)
        if found is None or int(found[2]) > 65535:
            raise ConfigurationError(
                f"{text!r} is no endpoint for datagrams: try udp:PORT or "
                "udp:PORT:interface=ADDRESS, with a backslash before each colon of the address"
            )
        interface = (found[3] or "").replace("\\:", ":")
        return cls(reactor, int(found[2]), interface or ("::" if found[1] else ""))

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        if not isinstance(protocolFactory, NamingGate):
            raise TypeError(f"datagrams are not for {protocolFactory!r}")
        listening: Deferred[IListeningPort] = execute(
            self._reactor.listenUDP,
            self.port,
            protocolFactory.makeDatagrams(),
            interface=self.interface,
            maxPacketSize=MOST_QUESTION,
        )
        return listening
