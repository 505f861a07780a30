"""
Routers: they do to segments what the kind of NAT says, and keep track of connections as Linux does.
"""

from __future__ import annotations

import errno
from collections.abc import Hashable
from random import Random
from typing import Final

from attrs import define, evolve, field
from twisted.internet.address import IPv6Address
from twisted.internet.interfaces import IReactorTime

from punchd.testing.internet.network import Gate
from punchd.testing.internet.segments import Complaint, Packet, Segment, withPort
from punchd.testing.internet.stacks import Uplink
from punchd.testing.natlab.kinds import Allocation, NatKind
from punchd.values.addresses import Address, makeAddress
from punchd.values.nat import Filtering, Mapping, Unsolicited

#: The ports that counting NATs give out: as the kernel lab's do.
COUNTING_FROM: Final = 20000
COUNTING_PORTS: Final = 8192

#: A shifted port is the inside port with these bits flipped; one by address has others for each
#: remote host.
SHIFT: Final = 0x1A5B

#: Seconds for which a connection that was reset is remembered (nf_conntrack_tcp_timeout_close).
CLOSED_FOR: Final = 10.0


@define(eq=False)
class Flow:
    """
    A connection through a router, as Linux's connection tracking knows it.

    @ivar inside: its end on the inside.
    @ivar outside: what the remote end sees of that.
    @ivar number: with which sequence number the inside has dialled; C{None} if the outside has.
    @ivar closedAt: when it was reset: nothing more comes in, until somebody dials again.
    """

    inside: Address
    outside: Address
    remote: Address
    number: int | None = None
    closedAt: float | None = None


@define(eq=False)
class Router:
    """
    A router with one outside address, or, if it does not translate, with none.

    It looks at connections as Linux does (C{docs/explanation/nat-behaviour.rst}): what does not fit
    a connection that it knows is I{invalid}, and is passed on untranslated, to get lost.

    @ivar outside: its own address.
    @ivar hairpins: whether it brings what inside hosts send to its outside address back inside.
    @ivar forwards: outside ports that lead inside in any case: leases.
    """

    kind: NatKind
    outside: str
    _clock: IReactorTime
    _random: Random
    _uplink: Uplink
    hairpins: bool = False
    forwards: dict[int, Address] = field(factory=dict, init=False)
    # What is on its LAN, by address.
    _inside: dict[str, Gate] = field(factory=dict, init=False)
    _flows: dict[tuple[Address, Address], Flow] = field(factory=dict, init=False)
    # The same by what the remote end sees.
    _returns: dict[tuple[Address, Address], Flow] = field(factory=dict, init=False)
    _mappings: dict[Hashable, int] = field(factory=dict, init=False)
    _owners: dict[int, Address] = field(factory=dict, init=False)
    _dialled: set[tuple[int, str]] = field(factory=set, init=False)
    _patterns: dict[str, int] = field(factory=dict, init=False)
    _counted: int = field(default=0, init=False)

    def plugIn(self, host: str, gate: Gate) -> None:
        """
        C{gate} has the address C{host} on the LAN.
        """
        self._inside[host] = gate

    # From inside.

    def outward(self, packet: Packet) -> None:
        """
        A packet from the LAN; it may stay there.
        """
        neighbour = self._inside.get(packet.destination.host)
        if neighbour is not None:
            # No router has a part in this, only a switch.
            self._clock.callLater(0, neighbour.inward, packet)
        elif isinstance(packet, Complaint):
            # A host of ours complains about what came in: nobody out there waits for that.
            return
        elif packet.hops <= 1:
            self._complain(packet, errno.EHOSTUNREACH)
        else:
            self._translate(evolve(packet, hops=packet.hops - 1))

    def _translate(self, segment: Segment) -> None:
        flow = self._flows.get((segment.source, segment.destination))
        if flow is not None:
            self._follow(flow, segment)
        elif segment.opens:
            flow = self._open(segment)
        if flow is None or not self._fits(flow, segment):
            # Invalid: the nat table does not see it. Without translation there is nothing to miss.
            self._uplink.outward(segment)
            return
        translated = evolve(segment, source=flow.outside)
        if segment.destination.host != self.outside:
            self._uplink.outward(translated)
        elif self.hairpins:
            self.inward(translated)
        else:
            # The router itself has nothing there.
            refusal = segment.refusal()
            if refusal is not None:
                self._deliver(refusal)

    def _follow(self, flow: Flow, segment: Segment) -> None:
        if segment.opens:
            # A new socket with the same four-tuple, or the same one again: it is open again.
            flow.closedAt = None
            flow.number = segment.number
        elif segment.rst:
            flow.closedAt = self._clock.seconds()

    def _fits(self, flow: Flow, segment: Segment) -> bool:
        # The answer to a SYN from outside must carry the number with which the inside has dialled
        # the same: then two SYNs have crossed. A listener's answer carries one of its own.
        isAnswer = segment.syn and segment.acknowledges is not None
        return not isAnswer or flow.number is None or flow.number == segment.number

    def _open(self, segment: Segment) -> Flow:
        inside, remote = segment.source, segment.destination
        outside = inside
        if self._translates(inside):
            port = self._portFor(inside, remote)
            outside = makeAddress(self.outside, port)
        self._dialled.add((outside.port, remote.host))
        return self._remember(Flow(inside, outside, remote, segment.number))

    def _translates(self, address: Address) -> bool:
        # Nobody translates IPv6; routers let in there what was asked for, and nothing else.
        return self.kind.natted and not isinstance(address, IPv6Address)

    def _remember(self, flow: Flow) -> Flow:
        self._flows[flow.inside, flow.remote] = flow
        self._returns[flow.outside, flow.remote] = flow
        return flow

    def _portFor(self, inside: Address, remote: Address) -> int:
        key: Hashable
        match self.kind.mapping:
            case Mapping.ENDPOINT_INDEPENDENT:
                key = inside
            case Mapping.ADDRESS_DEPENDENT:
                key = (inside, remote.host)
            case Mapping.ADDRESS_AND_PORT_DEPENDENT:
                key = (inside, remote)
        port = self._mappings.get(key)
        if port is None:
            port = self._allocate(inside, remote)
            while self._owners.get(port, inside) != inside:
                port = self._random.randint(*self.kind.ports)
            self._mappings[key] = port
            self._owners[port] = inside
        return port

    def _allocate(self, inside: Address, remote: Address) -> int:
        match self.kind.allocation:
            case Allocation.PRESERVING:
                return inside.port
            case Allocation.SHIFTED:
                return inside.port ^ SHIFT
            case Allocation.BY_ADDRESS:
                pattern = self._patterns.setdefault(remote.host, self._random.randrange(1, 0x8000))
                return inside.port ^ pattern
            case Allocation.COUNTING:
                port = COUNTING_FROM + self._counted % COUNTING_PORTS
                self._counted += 1
                return port
            case _:
                return self._random.randint(*self.kind.ports)

    # From outside.

    def inward(self, packet: Packet) -> None:
        """
        A packet for this router's address, or for one behind it.
        """
        if isinstance(packet, Complaint):
            self._passComplaint(packet)
            return
        if packet.hops <= 1:
            self._complain(packet, errno.EHOSTUNREACH)
            return
        segment = evolve(packet, hops=packet.hops - 1)
        flow = self._returns.get((segment.destination, segment.source))
        if flow is not None and self._isForgotten(flow):
            flow = None
        if flow is None and segment.opens:
            flow = self._admit(segment)
        if flow is None or not self._letsIn(flow, segment):
            self._refuse(segment)
            return
        if segment.rst:
            flow.closedAt = self._clock.seconds()
        self._deliver(evolve(segment, destination=flow.inside))

    def _letsIn(self, flow: Flow, segment: Segment) -> bool:
        if flow.closedAt is None:
            return True
        if segment.opens and flow.number is None:
            # Whoever has opened it may open it again.
            flow.closedAt = None
            return True
        return False

    def _isForgotten(self, flow: Flow) -> bool:
        if flow.closedAt is None or self._clock.seconds() < flow.closedAt + CLOSED_FOR:
            return False
        del self._flows[flow.inside, flow.remote], self._returns[flow.outside, flow.remote]
        return True

    def _admit(self, segment: Segment) -> Flow | None:
        """
        Let a stranger in, if the filter does.
        """
        outside, remote = segment.destination, segment.source
        if not self._translates(outside):
            return None
        inside = self.forwards.get(outside.port)
        if inside is None and self._filterAdmits(outside.port, remote):
            inside = self._owners.get(outside.port)
        if inside is None or (inside, remote) in self._flows:
            return None
        return self._remember(Flow(inside, outside, remote))

    def _filterAdmits(self, port: int, remote: Address) -> bool:
        match self.kind.filtering:
            case Filtering.ENDPOINT_INDEPENDENT:
                return True
            case Filtering.ADDRESS_DEPENDENT:
                return (port, remote.host) in self._dialled
            case Filtering.ADDRESS_AND_PORT_DEPENDENT:
                return False

    def _refuse(self, segment: Segment) -> None:
        unsolicited = self.kind.unsolicited
        if isinstance(segment.destination, IPv6Address):
            unsolicited = Unsolicited.DROP
        match unsolicited:
            case Unsolicited.DROP:
                return
            case Unsolicited.RESET:
                refusal = segment.refusal()
                if refusal is not None:
                    self._uplink.outward(refusal)
            case Unsolicited.ICMP:
                if not segment.rst:
                    self._complain(segment, errno.ECONNREFUSED)

    def _passComplaint(self, complaint: Complaint) -> None:
        about = complaint.about
        flow = self._returns.get((about.source, about.destination))
        if flow is not None:
            self._deliver(evolve(complaint, about=evolve(about, source=flow.inside)))

    def _complain(self, segment: Segment, number: int) -> None:
        own = withPort(makeAddress(self.outside, 0), 0)
        complaint = Complaint(own, segment, number)
        if segment.source.host in self._inside:
            self._deliver(complaint)
        else:
            self._uplink.outward(complaint)

    def _deliver(self, packet: Packet) -> None:
        gate = self._inside.get(packet.destination.host)
        if gate is not None:
            gate.inward(packet)
