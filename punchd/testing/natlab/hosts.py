"""
What a lab consists of, for those who use it: hosts, and routers before them.
"""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import attrs

from punchd.testing.natlab.kinds import NatKind
from punchd.testing.natlab.namespaces import Machine

if TYPE_CHECKING:
    from punchd.testing.natlab.lending import Lender


@attrs.frozen
class Site:
    """
    A place with one link to the core.

    @ivar core: The namespace of the core.
    @ivar number: Its number in the lab, a byte of all its addresses.
    @ivar delay: The time from the site to the middle of the network, in
        seconds; between two sites lies the sum of theirs.
    @ivar lends: Whether its router lends ports.
    @ivar ipv6: Whether it has IPv6, too.
    """

    core: str
    number: int
    delay: float
    lends: bool = False
    ipv6: bool = False

    @property
    def device(self) -> str:
        """
        The core's end of the link.
        """
        return f"site{self.number}"

    @property
    def link(self) -> str:
        """
        The first three bytes of the addresses on the link: the core has 1.

        The program that lends ports knows that C{198.18.0.0/15} is nobody's, and does not lend any
        there. So the sites of its routers have addresses that look like somebody's.
        """
        return f"11.18.{self.number}" if self.lends else f"198.18.{self.number}"

    @property
    def publicLan(self) -> str:
        """
        The first three bytes of the public addresses that the site may use
        behind a firewall.
        """
        return f"198.19.{self.number}"


class Router(Machine):
    """
    A router, made by the lab together with the first host behind it.

    @ivar kind: What it does; always of one layer.
    @ivar outside: Its address on its outer link.
    @ivar gateway: Its address on the LAN.
    @ivar upstream: The next router outwards, behind a carrier's NAT.
    @ivar lender: What lends ports there, if it does.
    @ivar hairpins: Whether it turns back inside what is for its own address.
    """

    lender: Lender | None = None
    hairpins: bool = False

    def __init__(
        self,
        name: str,
        namespace: str,
        *,
        kind: NatKind,
        outside: str,
        gateway: str,
        upstream: Router | None,
    ) -> None:
        super().__init__(name, namespace)
        self.kind = kind
        self.outside = outside
        self.gateway = gateway
        self.upstream = upstream

    @property
    def outermost(self) -> Router:
        """
        The router with the public address: the upstream-most one.
        """
        return self if self.upstream is None else self.upstream.outermost


class Host(Machine):
    """
    A machine at the edge, made by one of the lab's C{add} methods.

    @ivar kind: What stands between it and the public network.
    @ivar addresses: Its own addresses, of which C{address} is the first.
    @ivar router: The router that it is behind, unless it is public.
    @ivar site: Where it is.
    @ivar ipv6: Its own global IPv6 address, if its site has IPv6.
    """

    ipv6: str | None = None

    def __init__(
        self,
        name: str,
        namespace: str,
        *,
        kind: NatKind,
        addresses: tuple[str, ...],
        router: Router | None,
        site: Site,
    ) -> None:
        super().__init__(name, namespace)
        self.kind = kind
        self.addresses = addresses
        self.router = router
        self.site = site

    @property
    def address(self) -> str:
        """
        Its own address, private behind a NAT.
        """
        return self.addresses[0]

    @property
    def outside(self) -> str:
        """
        The address under which public hosts see its connections.
        """
        if self.router is None or not self.router.kind.natted:
            return self.address
        return self.router.outermost.outside

    def linkBytes(self) -> int:
        """
        How many bytes have crossed the link of this host's site, both ways.
        """
        shown = subprocess.run(
            ["ip", "-n", self.site.core, "-s", "-j", "link", "show", "dev", self.site.device],
            check=True,
            capture_output=True,
        )
        counters = json.loads(shown.stdout)[0]["stats64"]
        return int(counters["rx"]["bytes"]) + int(counters["tx"]["bytes"])
