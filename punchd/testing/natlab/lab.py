"""
A small internet in one Linux kernel.

Every host and router is a network namespace; a core namespace routes between
their sites and stands for everything in the middle.  The root namespace, and
with it the machine's own network, is never touched.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
from collections.abc import Collection
from types import TracebackType

import attrs

from punchd.testing.natlab import sixth
from punchd.testing.natlab.hosts import Host, Router, Site
from punchd.testing.natlab.kinds import KINDS, NatKind
from punchd.testing.natlab.lending import Lender
from punchd.testing.natlab.namespaces import ip, make, prefix, remove, sweep
from punchd.testing.natlab.requirements import LabUnavailable, lenderMissing, requirements
from punchd.testing.natlab.rules import LAN, WAN, ruleset
from punchd.testing.natlab.wire import DEVICE, TABLE, Wire

# A site's number is one byte of its addresses.
_SITES = 254
# Of the 8 addresses of a link's net, 2 are reserved and 1 is the core's.
_PUBLIC_ADDRESSES = 5
_FIRST_HOST = 10


@attrs.define
class _Lan:
    """
    The inside of a router.

    @ivar net: The first three bytes of its addresses.
    @ivar hosts: How many hosts it has.
    """

    router: Router
    net: str
    hosts: int = 0


class NatLab:
    """
    Sites with hosts behind NATs of any kind, at any distance from one another.

    Whoever makes one closes it, best by C{with}; what is left when the process
    ends is closed then, and what a killed process leaves is removed when the
    next lab is made.

    Public addresses are those of RFC 2544 (C{198.18.0.0/15}): not private, and
    nobody's.  Each lab has them for itself.

    @ivar delay: The one-way time in seconds between two sites of which neither
        has a distance of its own.
    """

    def __init__(self, delay: float = 0.025, *, jitter: float = 0.0) -> None:
        """
        @param delay: See above.  With 0 nothing delays packets, and data flows
            as fast as the machine can.
        @param jitter: The most by which the delay of a packet is exceeded, at
            random, without ever changing the order of packets on one path.
        @raise LabUnavailable: This machine cannot carry a lab.
        """
        missing = requirements()
        if missing:
            raise LabUnavailable(missing)
        sweep()
        self.delay = delay
        self._owner = os.getpid()
        self._prefix = prefix()
        self._core = f"{self._prefix}core"
        self._sites = 0
        self._machines: dict[str, Host | Router] = {}
        self._lans: dict[str, _Lan] = {}
        self._wire: Wire | None = None
        self._hasIPv6 = False
        atexit.register(self.close)
        try:
            # An address that nobody has swallows packets, as does that of a site
            # whose link is cut: an answer would be one that no timeout tests.
            make(self._core, ["route add blackhole default"])
            if delay or jitter:
                self._wire = Wire(self._core, jitter)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> NatLab:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """
        End all processes and remove everything.  Harmless when repeated, and in
        a forked child, which does not own the lab.
        """
        if os.getpid() != self._owner:
            return
        atexit.unregister(self.close)
        try:
            for machine in self._machines.values():
                machine.endAll()
                if isinstance(machine, Router) and machine.lender is not None:
                    machine.lender.close()
            if self._wire is not None:
                self._wire.close()
                self._wire = None
        finally:
            # Ends what the above did not, if it was interrupted.
            remove(self._prefix)

    def addPublic(
        self, name: str, *, addresses: int = 1, delay: float | None = None, ipv6: bool = False
    ) -> Host:
        """
        Add a host with public addresses at a site of its own.

        @param addresses: How many, from 1 to 5.
        @param delay: See L{addHost}.
        @param ipv6: Whether it has a global IPv6 address, too.
        """
        if not 1 <= addresses <= _PUBLIC_ADDRESSES:
            raise ValueError(f"{addresses} addresses: a site has 1 to {_PUBLIC_ADDRESSES}")
        site = self._newSite(delay, ipv6=ipv6)
        namespace = self._newNamespace(name)
        own = tuple(f"{site.link}.{2 + n}" for n in range(addresses))
        make(
            namespace,
            [
                f"link add eth0 type veth peer name {site.device} netns {self._core}",
                *(f"addr add {each}/29 dev eth0" for each in own),
                "link set eth0 up",
                f"route add default via {site.link}.1",
            ],
        )
        self._linkCore(site)
        self._place(site, own)
        host = Host(name, namespace, kind=KINDS["public"], addresses=own, router=None, site=site)
        if ipv6:
            host.ipv6 = sixth.joinPublic(site, namespace)
            self._place(site, (host.ipv6,))
        self._machines[name] = host
        return host

    def addHost(
        self,
        name: str,
        kind: NatKind | str,
        *,
        delay: float | None = None,
        lan: str | None = None,
        lends: Collection[str] = (),
        ipv6: bool = False,
        hairpins: bool = False,
    ) -> Host:
        """
        Add a host behind a new router, or a public one, at a new site.

        @param kind: A kind or its name.
        @param delay: The site's own share, in seconds, of the one-way time to
            any other site; by default half of the lab's.
        @param lan: The first three bytes of the LAN's addresses, to let those
            of several sites overlap; by default each site has its own.
            Behind a firewall they are public, and always the site's.
        @param lends: The protocols by which the router lends ports, of
            L{PROTOCOLS<punchd.testing.natlab.lending.PROTOCOLS>}; by default it
            lends none.
        @param ipv6: Whether the site has IPv6, too, behind a firewall.
        @param hairpins: Whether hosts of the site reach each other at their
            mapped addresses; none of the kinds does so by itself.
        """
        kind = KINDS[kind] if isinstance(kind, str) else kind
        if lends and not kind.natted:
            raise ValueError(f"{kind.name}: only a router that translates lends ports")
        if lends and shutil.which("miniupnpd") is None:
            raise LabUnavailable([lenderMissing()])
        if kind.name == "public":
            return self.addPublic(name, delay=delay, ipv6=ipv6)
        if kind.layers and (ipv6 or hairpins):
            raise ValueError(f"{kind.name}: several routers in a row have no IPv6, nor hairpin")
        site = self._newSite(delay, bool(lends), ipv6)
        if not kind.natted:
            lan = site.publicLan
        elif lan is None:
            lan = f"192.168.{site.number}"
        router = self._addRouters(name, kind, site, f"{lan}.1", hairpins)
        self._lans[router.namespace] = _Lan(router, lan)
        if lends:
            router.lender = Lender(router, lan, lends)
            router.lender.start()
        return self._addInside(name, kind, router, site)

    def addNeighbour(self, name: str, other: Host) -> Host:
        """
        Add a host on the LAN of another, behind the same router.
        """
        if other.router is None:
            raise ValueError(f"{other.name} is behind no router")
        return self._addInside(name, other.kind, other.router, other.site)

    def cutLink(self, host: Host) -> None:
        """
        Cut the link between the host's site and the core, for all hosts there:
        packets vanish both ways, also those that are on their way.
        """
        self._ruleOut("add", host)

    def restoreLink(self, host: Host) -> None:
        """
        Undo L{cutLink}.
        """
        self._ruleOut("del", host)

    def renumber(self, host: Host) -> str:
        """
        Give the outermost router before a host another outside address, as
        providers do over night; its mappings are gone with the old one.

        @return: The new address.
        """
        if host.router is None or not host.router.kind.natted:
            raise ValueError(f"{host.name} is behind no NAT")
        router = host.router.outermost
        site, old = host.site, router.outside
        last = 2 + (int(old.rpartition(".")[2]) - 1) % _PUBLIC_ADDRESSES
        new = f"{site.link}.{last}"
        ip(
            [
                f"addr del {old}/29 dev {WAN}",
                f"addr add {new}/29 dev {WAN}",
                f"route add default via {site.link}.1",
            ],
            router.namespace,
        )
        rules = "delete table ip nat_kind\n" + ruleset(router.kind, new, hairpins=router.hairpins)
        router.run(["nft", "-f", "-"], input=rules)
        # Without the second, what is on its way to the old address would arrive for some seconds.
        core = [f"route replace {site.publicLan}.0/24 via {new}", f"neigh flush to {old}"]
        ip(core, self._core)
        self._place(site, (new,))
        router.outside = new
        return new

    def _ruleOut(self, verb: str, host: Host) -> None:
        """
        Add or delete the routing rules that cut the link of a site.

        Setting the device down would do it too, but the kernel takes up to a
        second to notice that it is up again, and answers in the meantime.
        """
        site = host.site
        rules = [f"iif {site.device}", f"to {site.link}.0/29", f"to {site.publicLan}.0/24"]
        ip((f"rule {verb} pref 5 {each} blackhole" for each in rules), self._core)
        if site.ipv6:
            rules = [f"iif {site.device}", *(f"to {net}" for net in sixth.nets(site))]
            ip((f"rule {verb} pref 5 {each} blackhole" for each in rules), self._core, family=6)

    def _newSite(self, delay: float | None, lends: bool = False, ipv6: bool = False) -> Site:
        """
        The site with the next number.
        """
        if delay and self._wire is None:
            raise ValueError("a site's own delay needs a lab with a delay or jitter")
        if self._sites == _SITES:
            raise ValueError(f"a lab has at most {_SITES} sites")
        self._sites += 1
        share = self.delay / 2 if delay is None else delay
        if ipv6 and not self._hasIPv6:
            sixth.beginCore(self._core, None if self._wire is None else DEVICE, TABLE)
            self._hasIPv6 = True
        return Site(self._core, self._sites, share, lends, ipv6)

    def _newNamespace(self, name: str) -> str:
        """
        The name of the namespace for a new machine.
        """
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name) or name in {*self._machines, "core"}:
            raise ValueError(f"{name!r} is taken, or has other letters than a-z, 0-9, . and -")
        return self._prefix + name

    def _linkCore(self, site: Site) -> None:
        """
        Set the core's end of a new link up.
        """
        ip(
            [
                f"addr add {site.link}.1/29 dev {site.device}",
                f"link set {site.device} up",
                f"route add {site.publicLan}.0/24 via {site.link}.2",
            ],
            self._core,
        )
        if site.ipv6:
            sixth.linkCore(site)

    def _place(self, site: Site, addresses: tuple[str, ...]) -> None:
        """
        Tell the wire where addresses are.
        """
        if self._wire is not None:
            for each in addresses:
                self._wire.place(each, site.delay)

    def _addRouters(
        self, name: str, kind: NatKind, site: Site, gateway: str, hairpins: bool
    ) -> Router:
        """
        Add the routers of a site, from the core inwards.

        @return: The innermost.
        """
        layers = [KINDS[each] for each in kind.layers] or [kind]
        upstream: Router | None = None
        for depth, layer in reversed(list(enumerate(layers))):
            own = f"{name}.router" + ("" if depth == 0 else str(depth + 1))
            namespace = self._newNamespace(own)
            # Between routers of one site, addresses are those of RFC 6598.
            inner = gateway if depth == 0 else f"100.64.{site.number}.{4 * depth + 1}"
            if upstream is None:
                outside, above = f"{site.link}.2/29", f"{site.link}.1"
                peer = f"{site.device} netns {self._core}"
            else:
                outside, above = f"100.64.{site.number}.{4 * depth + 6}/30", upstream.gateway
                peer = f"inner netns {upstream.namespace}"
            address = outside.partition("/")[0]
            make(
                namespace,
                [
                    f"link add {WAN} type veth peer name {peer}",
                    f"addr add {outside} dev {WAN}",
                    f"link set {WAN} up",
                    f"route add default via {above}",
                    f"link add {LAN} type bridge",
                    f"addr add {inner}/{24 if depth == 0 else 30} dev {LAN}",
                    f"link set {LAN} up",
                ],
                ruleset(layer, address, hairpins=hairpins),
            )
            if upstream is None:
                self._linkCore(site)
            else:
                self._plugIn(upstream, "inner")
            if upstream is None:
                self._place(site, (address,))
            upstream = Router(
                own, namespace, kind=layer, outside=address, gateway=inner, upstream=upstream
            )
            upstream.hairpins = hairpins
            self._machines[own] = upstream
        assert upstream is not None
        if site.ipv6:
            self._place(site, (sixth.joinRouter(site, upstream.namespace, kind),))
        return upstream

    def _plugIn(self, router: Router, port: str) -> None:
        """
        Put the router's end of a new link into its LAN.
        """
        ip([f"link set {port} master {LAN} up"], router.namespace)

    def _addInside(self, name: str, kind: NatKind, router: Router, site: Site) -> Host:
        """
        Add a host to a LAN.
        """
        lan = self._lans[router.namespace]
        namespace = self._newNamespace(name)
        port = f"port{lan.hosts}"
        address = f"{lan.net}.{_FIRST_HOST + lan.hosts}"
        host = Host(name, namespace, kind=kind, addresses=(address,), router=router, site=site)
        make(
            namespace,
            [
                f"link add eth0 type veth peer name {port} netns {router.namespace}",
                f"addr add {address}/24 dev eth0",
                "link set eth0 up",
                f"route add default via {router.gateway}",
            ],
        )
        self._plugIn(router, port)
        if site.ipv6:
            host.ipv6 = sixth.joinLan(site, namespace, lan.hosts)
            self._place(site, (host.ipv6,))
        lan.hosts += 1
        if not router.kind.natted:
            self._place(site, (address,))
        self._machines[name] = host
        return host
