"""
An internet of hosts and routers, to be built like the kernel lab's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from random import Random
from typing import Any

from attrs import define

from punchd.interfaces import IStrategy
from punchd.testing.internet.introducing import Introduced, Introduction
from punchd.testing.internet.network import Network, Site, VirtualClock
from punchd.testing.internet.reactor import SimulatedReactor
from punchd.testing.internet.routers import Router
from punchd.testing.internet.segments import Packet
from punchd.testing.internet.server import Server
from punchd.testing.internet.stacks import Stack, Uplink
from punchd.testing.natlab.kinds import KINDS, NatKind
from punchd.values.nat import Filtering, NatBehaviour


@define(eq=False)
class Host:
    """
    A host of an L{Internet}, which makes it.

    @ivar kind: what stands between it and the public network.
    @ivar address: its own address.
    @ivar outside: the address that public hosts see.
    @ivar site: where it is.
    @ivar routers: those between it and the public network, the nearest first.
    @ivar stack: its TCP, with counters.
    @ivar reactor: what programs on it run on.
    @ivar leases: whether its router lends it ports.
    """

    name: str
    kind: NatKind
    address: str
    outside: str
    site: Site
    routers: tuple[Router, ...]
    stack: Stack
    reactor: SimulatedReactor
    leases: bool = False

    @property
    def ipv6(self) -> str | None:
        """
        Its global IPv6 address, if it has one.
        """
        return next((host for host in self.stack.hosts if ":" in host), None)


class Internet:
    """
    An in-memory internet. Nothing in it takes time; with the same seed, the same happens again.

    It is built with the same words as L{NatLab<punchd.testing.natlab.lab.NatLab>}, of the same
    kinds of NAT.

    @ivar clock: its time, which goes on only while somebody runs it.
    @ivar network: its public part.
    @ivar server: the one that introduces peers.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        delay: float = 0.025,
        jitter: float = 0.0,
        loss: float = 0.0,
        serverAddresses: int = 1,
        ipv6: bool = False,
    ) -> None:
        """
        @param delay: seconds one way between two sites, unless a host has a delay of its own.
        @param jitter: seconds by which a packet may be late.
        @param loss: the share of packets that get lost between sites.
        @param serverAddresses: with two, peers know what their NATs do in full; with one, they
            cannot tell whether mapping and filtering look at the address or at nothing.
        @param ipv6: whether every host has a global IPv6 address too, behind a stateful firewall if
            it is behind a router.
        """
        self.delay = delay
        self.seed = seed
        self.clock = VirtualClock()
        self.network = Network(self.clock, self.chance("network"), jitter, loss)
        self._hasIPv6 = ipv6
        self._sites = 0
        self._hosts: dict[str, Host] = {}
        self.server = Server(self.addPublic("server", addresses=serverAddresses))

    def chance(self, purpose: str) -> Random:
        """
        Random numbers for one purpose, so that others do not change what it meets.
        """
        return Random(f"{self.seed} {purpose}")

    # Building.

    def addPublic(self, name: str, *, addresses: int = 1, delay: float | None = None) -> Host:
        """
        A host on public addresses.

        @param delay: see L{addHost}.
        """
        site, number = self._newSite(delay)
        hosts = [f"198.18.{number}.{2 + count}" for count in range(addresses)]
        if self._hasIPv6:
            hosts.append(_ipv6Host(number, 2))
        host = self._newHost(name, KINDS["public"], hosts, hosts[0], site, (), self.network)
        site.gate = host.stack
        for each in hosts:
            self.network.connect(each, site)
        return host

    def addHost(
        self,
        name: str,
        kind: NatKind | str,
        *,
        delay: float | None = None,
        hairpins: bool = False,
        leases: bool = False,
    ) -> Host:
        """
        A host behind a router of that kind, or two for a carrier's; at a site of its own.

        @param kind: one of L{KINDS<punchd.testing.natlab.kinds.KINDS>} or its name, or one of your
            own making.
        @param delay: the site's share, in seconds, of the one-way time to others; by default, half
            of the internet's delay.
        @param hairpins: whether the router brings back inside what inside hosts send to its own
            outside address.
        @param leases: whether the router lends ports to its hosts.
        """
        kind = KINDS[kind] if isinstance(kind, str) else kind
        if not kind.natted and kind.filtering is Filtering.ENDPOINT_INDEPENDENT:
            return self.addPublic(name, delay=delay)
        site, number = self._newSite(delay)
        outside = f"198.18.{number}.2"
        uplink: Uplink = self.network
        routers: list[Router] = []
        layers = [KINDS[each] for each in kind.layers] or [kind]
        for depth, layer in enumerate(reversed(layers)):
            own = outside if depth == 0 else f"100.64.{number}.{1 + depth}"
            chance = self.chance(f"router {number} {depth}")
            router = Router(layer, own, self.clock, chance, uplink, hairpins)
            if routers:
                routers[0].plugIn(own, router)
            else:
                site.gate = router
            uplink = router
            routers.insert(0, router)
        inside = f"192.168.{number}.10" if kind.natted else f"198.19.{number}.10"
        if not kind.natted:
            outside = inside
        self.network.connect(routers[-1].outside, site)
        return self._addInside(name, kind, inside, outside, site, tuple(routers), 10, leases)

    def addNeighbour(self, name: str, other: Host, *, leases: bool = False) -> Host:
        """
        Another host on the LAN of C{other}.
        """
        if not other.routers:
            raise ValueError(f"{other.name} is behind no router")
        network, _, last = other.address.rpartition(".")
        there = [each for each in self._hosts.values() if each.routers == other.routers]
        number = int(last) + len(there)
        inside = f"{network}.{number}"
        outside = other.outside if other.kind.natted else inside
        return self._addInside(
            name, other.kind, inside, outside, other.site, other.routers, number, leases
        )

    def cutLink(self, host: Host) -> None:
        """
        Cut the host's site off.
        """
        host.site.isCut = True

    def restoreLink(self, host: Host) -> None:
        """
        Put it back.
        """
        host.site.isCut = False

    def keepApart(self, one: Host, other: Host) -> None:
        """
        Lose whatever the sites of two hosts send each other; the server reaches both.
        """
        self.network.keepApart(one.site, other.site)

    def _newSite(self, delay: float | None) -> tuple[Site, int]:
        self._sites += 1
        share = self.delay / 2 if delay is None else delay
        nobody: Any = None
        return Site(share, nobody), self._sites

    def _addInside(
        self,
        name: str,
        kind: NatKind,
        inside: str,
        outside: str,
        site: Site,
        routers: tuple[Router, ...],
        number: int,
        leases: bool,
    ) -> Host:
        hosts = [inside]
        if self._hasIPv6:
            hosts.append(_ipv6Host(int(inside.split(".")[2]), number))
        host = self._newHost(name, kind, hosts, outside, site, routers, routers[0])
        host.leases = leases
        for each in hosts:
            routers[0].plugIn(each, host.stack)
        for each in hosts[1:] if kind.natted else hosts:
            self.network.connect(each, site)
            for inner, outer in pairwise(routers):
                outer.plugIn(each, inner)
        return host

    def _newHost(
        self,
        name: str,
        kind: NatKind,
        hosts: Sequence[str],
        outside: str,
        site: Site,
        routers: tuple[Router, ...],
        uplink: Uplink,
    ) -> Host:
        if name in self._hosts:
            raise ValueError(f"there is a host {name!r} already")
        stack = Stack(name, tuple(hosts), self.clock, self.chance(f"host {name}"), uplink)
        reactor = SimulatedReactor(self.clock, stack)
        host = Host(name, kind, hosts[0], outside, site, routers, stack, reactor)
        self._hosts[name] = host
        return host

    # Running.

    def watch(self, see: Callable[[Packet], None]) -> None:
        """
        Show each packet that enters the public network to C{see}.
        """
        self.network.watch = see

    def run(self, isDone: Callable[[], bool] = lambda: False, limit: float = 60.0) -> bool:
        """
        Let time go on: see L{VirtualClock.run<punchd.testing.internet.network.VirtualClock.run>}.
        """
        return self.clock.run(isDone, limit)

    def begin(
        self,
        caller: Host,
        callee: Host,
        strategies: Sequence[IStrategy],
        calleeStrategies: Sequence[IStrategy] | None = None,
        behaviours: Mapping[str, NatBehaviour] | None = None,
    ) -> Introduction:
        """
        Let the server introduce two hosts, which race their strategies, and return before anything
        has happened: see L{introduce}.

        @param strategies: the caller's, best first.
        @param calleeStrategies: the callee's; by default, the same.
        @param behaviours: by the name of a host, what its peer says of its NAT; by default, what
            discovery would find.
        """
        return Introduction.begin(
            self,
            (caller, callee),
            (list(strategies), list(strategies if calleeStrategies is None else calleeStrategies)),
            dict(behaviours or {}),
        )

    def introduce(
        self,
        caller: Host,
        callee: Host,
        strategies: Sequence[IStrategy],
        calleeStrategies: Sequence[IStrategy] | None = None,
        behaviours: Mapping[str, NatBehaviour] | None = None,
    ) -> Introduced:
        """
        Let the server introduce two hosts, and tell what came of it. Both have a real L{Punch
        <punchd.peer.punching.Punch>}, with real TLS on each connection; afterwards everything is
        closed again.
        """
        introduction = self.begin(caller, callee, strategies, calleeStrategies, behaviours)
        introduction.run()
        return introduction.end()


def _ipv6Host(site: int, number: int) -> str:
    return f"2001:db8:{site:x}::{number:x}"
