"""
The two peers of an introduction, as a strategy sees them.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import field, frozen

from punchd.values.addresses import Address, Scope, isGlobalIPv6, scopeOf
from punchd.values.nat import UNKNOWN, NatBehaviour


@frozen
class Offer:
    """
    What a peer says of itself to the master, before anybody asks for it.

    @ivar nat: what stands in front of it does, as far as it knows.
    @ivar hosts: its host candidates (RFC 8445): its own addresses, not what a NAT makes of them.
    @ivar strategies: names and versions, best first.
    @ivar mapped: addresses that its router has leased to it, where anybody may dial it; the server
        passes on those that it has dialled itself.
    @ivar ipv6: a port of its own at a global IPv6 address, as the server observed it.
    @ivar takesRelay: whether it takes paths through the server's relay.
    """

    nat: NatBehaviour = UNKNOWN
    hosts: tuple[Address, ...] = ()
    strategies: tuple[tuple[str, int], ...] = ()
    mapped: tuple[Address, ...] = ()
    ipv6: Address | None = None
    takesRelay: bool = False


@frozen
class Party:
    """
    One side of an introduction.

    @ivar reflexive: the address that the server observed for the port that this side holds.
    """

    reflexive: Address
    offer: Offer

    @property
    def hasNoNat(self) -> bool:
        """
        Whether the server sees this side under an address of its own.
        """
        return any(host.host == self.reflexive.host for host in self.offer.hosts)


@frozen
class Situation:
    """
    What both sides know when an introduction begins; the same value on both.
    """

    caller: Party
    callee: Party

    @property
    def sharesPublicAddress(self) -> bool:
        """
        Whether both come to the server from one address: the same NAT, or the same host.
        """
        return self.caller.reflexive.host == self.callee.reflexive.host

    @property
    def isOfOneFamily(self) -> bool:
        """
        Whether the ports that the server has seen of both are both of IPv4, or both of IPv6.
        """
        return type(self.caller.reflexive) is type(self.callee.reflexive)

    @property
    def meetsAsObserved(self) -> bool:
        """
        Whether two peers that dial each other where the server has seen them can meet, as far as is
        known.

        Both must have been seen by IPv4, or both by IPv6. A symmetric NAT shows each remote another
        port than the server saw. Its SYNs arrive where ports are not filtered; nothing that is
        dialled to the port that the server saw does.
        """
        if not self.isOfOneFamily:
            return False
        natOfCaller, natOfCallee = self.caller.offer.nat, self.callee.offer.nat
        if natOfCaller.isSymmetric:
            return not natOfCallee.isSymmetric and not natOfCallee.filtersPorts
        return not (natOfCallee.isSymmetric and natOfCaller.filtersPorts)


@frozen
class LocalAddressPolicy:
    """
    Where a peer sends SYNs at all, whatever a server tells it.

    A server that sees us under a public address has no business sending us to private addresses,
    other than those of a peer behind the very same public address; and nobody is ever sent to
    multicast, link-local or, from outside this host, loopback addresses.

    @ivar observed: the address under which the server sees us.
    """

    observed: Address = field()

    def allowsReflexive(self, address: Address) -> bool:
        """
        May we dial C{address} as another's reflexive candidate?
        """
        scope = scopeOf(address)
        if scope in (Scope.NEVER, Scope.LINK):
            return False
        return scope >= scopeOf(self.observed)

    def allowsHost(self, address: Address, reflexive: Address) -> bool:
        """
        May we dial C{address} as the host candidate of a peer that has C{reflexive}?
        """
        return isShareableHost(address) and reflexive.host == self.observed.host

    def allowsIPv6(self, address: Address, other: Party) -> bool:
        """
        May we dial C{address}, one of IPv6? Where the server has seen C{other}, and nowhere else.
        """
        if address.host == other.reflexive.host:
            return self.allowsReflexive(address)
        return address == other.offer.ipv6 and isGlobalIPv6(address)


def isCredible(observed: Address, server: Address) -> bool:
    """
    Whether a server at C{server} can see a peer as C{observed}. What a server says there decides
    where the peer sends SYNs on its word, so a server on another host shall not make it dial its
    own.
    """
    scope = scopeOf(observed)
    if scope in (Scope.NEVER, Scope.LINK):
        return False
    return scope is not Scope.LOOPBACK or scopeOf(server) is Scope.LOOPBACK


def isShareableHost(address: Address) -> bool:
    """
    Whether a host candidate may be told to another peer at all: only private addresses, which can
    mean nothing to anybody outside their network.
    """
    return scopeOf(address) is Scope.PRIVATE


def hostsFor(hosts: Iterable[Address], own: Address, other: Address) -> tuple[Address, ...]:
    """
    Which of a peer's host candidates are told to another peer: private ones if both come from one
    public address, and those that say no more than the server has observed itself.

    @param own: the address that the server observed for the peer.
    @param other: the address that it observed for the one who is told.
    """
    return tuple(
        host
        for host in hosts
        if scopeOf(host) is not Scope.NEVER
        and (host.host == own.host or (isShareableHost(host) and own.host == other.host))
    )
