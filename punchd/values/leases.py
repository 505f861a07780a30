"""
Ports that a router lends: whoever dials them at the router's outside address is let in.
"""

from __future__ import annotations

from attrs import frozen

from punchd.values.addresses import Address


@frozen
class Lease:
    """
    One TCP port, as the router says that it has lent it.

    @ivar by: the protocol that it was asked by: C{pcp}, C{nat-pmp}, C{upnp}.
    @ivar internal: the port on this host.
    @ivar external: the router's outside address, and the port there.
    @ivar lifetime: seconds from when it was given.
    @ivar generation: of the router's memory: it grows when the router has forgotten its leases.
    """

    by: str
    internal: int
    external: Address
    lifetime: float
    generation: int = 0


@frozen
class RouterFacts:
    """
    What a router says of itself when it is asked, without lending anything.

    @ivar external: the host of its outside address; C{None} where only a lease tells it.
    @ivar generation: as L{Lease.generation}.
    """

    external: str | None
    generation: int = 0
