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
from twisted.internet.protocol import DatagramProtocol
from zope.interface import implementer

from punchd.errors import ConfigurationError
from punchd.net.inherited import PREFIX, inheritedDatagrams
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
    """

    _listen: Callable[[DatagramProtocol], IListeningPort]

    @classmethod
    def parse(cls, reactor: Any, text: str) -> DatagramEndpoint:
        """
        The endpoint that C{text} describes: C{udp:PORT} or C{udp6:PORT}, and C{:interface=ADDRESS}
        behind it; or C{udp:systemd:…} for a socket that was passed on.

        @raise ConfigurationError: when it is of another form.
        """
        rest = text.removeprefix("udp:")
        if rest.startswith(PREFIX):
            return cls(inheritedDatagrams(reactor, rest, MOST_QUESTION))
        found = _DATAGRAMS.match(text)
        if found is None or int(found[2]) > 65535:
            raise ConfigurationError(
                f"{text!r} is no endpoint for datagrams: try udp:PORT or "
                "udp:PORT:interface=ADDRESS, with a backslash before each colon of the address"
            )
        # Without one, all addresses of IPv4, or all of both.
        interface = (found[3] or "").replace("\\:", ":") or ("::" if found[1] else "")
        return cls(
            lambda protocol: reactor.listenUDP(
                int(found[2]), protocol, interface=interface, maxPacketSize=MOST_QUESTION
            )
        )

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        if not isinstance(protocolFactory, NamingGate):
            raise TypeError(f"datagrams are not for {protocolFactory!r}")
        listening: Deferred[IListeningPort] = execute(self._listen, protocolFactory.makeDatagrams())
        return listening
