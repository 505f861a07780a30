"""
A peer of the in-memory internet: logged in, with its ports, and what a punch needs of its server.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from attrs import evolve
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol

from punchd.identity.certificates import selfSigned
from punchd.identity.keys import Identity
from punchd.identity.tls import makeContext
from punchd.interfaces import IStrategy
from punchd.net.held import HeldPort
from punchd.peer.arrivals import Arrivals
from punchd.peer.ports import FreshPorts
from punchd.peer.punching import Punch
from punchd.server.sessions import Session
from punchd.testing.internet.server import ASSIST, MASTER, Server
from punchd.testing.internet.sockets import Socket
from punchd.testing.natlab.kinds import Allocation as Choice
from punchd.testing.natlab.kinds import NatKind
from punchd.values.addresses import Address, makeAddress
from punchd.values.nat import Allocation, Filtering, Mapping, NatBehaviour
from punchd.values.parties import LocalAddressPolicy, Offer, Party, Situation
from punchd.values.peers import PeerID
from punchd.wire.commands import OWN, Introduce, Tell, offerArguments, offerFrom
from punchd.wire.preamble import Side
from punchd.wire.versions import LINK_ALPN

if TYPE_CHECKING:
    from punchd.testing.internet.internet import Host, Internet


def behaviourOf(kind: NatKind, isSeenInFull: bool = True) -> NatBehaviour:
    """
    What a peer behind a NAT of that kind knows of it, when its discovery is done.

    @param isSeenInFull: whether the server has a second address. With one, mapping by address looks
        like none, and whether strangers are let in from everywhere cannot be seen.
    """
    mapping, filtering = kind.mapping, kind.filtering
    if not isSeenInFull:
        if mapping is Mapping.ADDRESS_DEPENDENT:
            mapping = Mapping.ENDPOINT_INDEPENDENT
        if filtering is Filtering.ENDPOINT_INDEPENDENT:
            filtering = Filtering.ADDRESS_DEPENDENT
    allocations = {
        Choice.PRESERVING: Allocation.PRESERVING,
        Choice.COUNTING: Allocation.COUNTING,
    }
    allocation = allocations.get(kind.allocation, Allocation.RANDOM)
    delta = int(allocation is Allocation.COUNTING)
    # What a NAT answers can be seen where it refuses somebody.
    isRefused = not kind.natted or filtering is Filtering.ADDRESS_AND_PORT_DEPENDENT
    isRefused |= isSeenInFull and filtering is Filtering.ADDRESS_DEPENDENT
    unsolicited = kind.unsolicited if isRefused else None
    return NatBehaviour(
        mapping, filtering, unsolicited, allocation, delta, fromOneAddress=not isSeenInFull
    )


class Peer:
    """
    Made for one introduction; L{close} ends it.

    @ivar identity: its key.
    @ivar port: the port that it is called at.
    @ivar notes: its timeline, each step with its moment.
    @ivar punch: its side of the introduction, once it has begun.
    @ivar told: how many messages its strategies have sent.
    @ivar leased: the port that its router has leased to it.
    """

    def __init__(
        self,
        internet: Internet,
        host: Host,
        strategies: Sequence[IStrategy],
        behaviour: NatBehaviour | None,
    ) -> None:
        self.host = host
        self.strategies = {one.name: one for one in strategies}
        self.random = internet.chance(f"peer {host.name} {internet.clock.seconds()}")
        self.identity = Identity.of(Ed25519PrivateKey.from_private_bytes(self.random.randbytes(32)))
        self.notes: list[tuple[float, str]] = []
        self.punch: Punch | None = None
        self.told = 0
        self.leased: HeldPort | None = None
        self.context = makeContext(selfSigned(self.identity), LINK_ALPN)
        self._server: Server = internet.server
        self._order = [one.name for one in strategies]
        isSeenInFull = len([one for one in self._server.host.stack.hosts if ":" not in one]) > 1
        self._nat = behaviourOf(host.kind, isSeenInFull) if behaviour is None else behaviour
        self._arrivals = Arrivals(host.reactor, self._find)
        self._ports = FreshPorts(host.reactor, self.random.randbytes, self._arrivals, self._ask)
        self._ipv6: HeldPort | None = None
        self._sockets: set[Socket] = set()
        self._master: Any = None
        self._session: Session | None = None
        self.port = HeldPort.take(host.reactor, self._arrivals)

    @property
    def session(self) -> Session:
        """
        What the server knows of it.
        """
        assert self._session is not None, "not logged in"
        return self._session

    # The server.

    async def login(self, accepts: PeerID, called: Callable[[Peer, dict[str, Any]], None]) -> None:
        """
        Log in, and have the server see the ports that the offer names.

        @param accepts: who may be introduced to it.
        @param called: gets this peer, and the arguments of the introduction, when it is called.
        """
        self._master = Protocol()
        factory = Factory.forProtocol(lambda: self._master)
        factory.noisy = False
        await self.port.to(self._server.address(MASTER)).connect(factory)
        self._master.transport.write(self.host.name.encode("ascii") + b"\n")
        while self.host.name not in self._server.observed:
            await self._pause()

        def told(command: type[Any], arguments: dict[str, Any]) -> None:
            if "caller" in arguments:
                called(self, arguments)
            elif self.punch is not None and self.punch.ticket.session == arguments["session"]:
                self.punch.told(arguments["strategy"], arguments["body"], arguments["observed"])

        proven = self._lease()
        accepted = frozenset([accepts])
        self._session = self._server.arrive(
            self.host, self.identity.peerID, self.offer, accepted, proven, told
        )
        if self.host.ipv6 is not None:
            assist = makeAddress(str(self._server.host.ipv6), ASSIST)
            self._ipv6 = await self._ports.take(assist, self.host.ipv6)
            self._session.offer = evolve(self._session.offer, ipv6=self._ipv6.observed)
        self._sockets = set(self.host.stack.sockets)

    def _pause(self) -> Deferred[None]:
        waiting: Deferred[None] = Deferred()
        self.host.reactor.callLater(0.001, waiting.callback, None)
        return waiting

    def _lease(self) -> frozenset[Address]:
        if not self.host.leases:
            return frozenset()
        self.leased = HeldPort.take(self.host.reactor, self._arrivals)
        self.leased.listen()
        inside = makeAddress(self.host.address, self.leased.number)
        # Each router lends the port to the next one inwards.
        for router in self.host.routers:
            router.forwards[self.leased.number] = inside
            inside = makeAddress(router.outside, self.leased.number)
        self._mapped = inside
        return frozenset([inside])

    @property
    def offer(self) -> Offer:
        """
        What it says of itself.
        """
        strategies = tuple((name, self.strategies[name].version) for name in self._order)
        return Offer(
            nat=self._nat,
            hosts=(makeAddress(self.host.address, self.port.number),),
            strategies=strategies,
            mapped=() if self.leased is None else (self._mapped,),
        )

    def introduce(self, peerID: PeerID) -> Deferred[dict[str, Any]]:
        """
        Ask to be introduced; fires with the server's answer.
        """
        return self._ask(Introduce, peer=peerID, token=None, **offerArguments(self.offer))

    def situationFrom(self, told: dict[str, Any], side: Side) -> Situation:
        """
        What the server has told of both.
        """
        own = Party(told["own"], offerFrom(told, OWN))
        other = Party(told["reflexive"], offerFrom(told))
        return Situation(own, other) if side is Side.CALLER else Situation(other, own)

    @property
    def policy(self) -> LocalAddressPolicy:
        """
        Whom it dials at all.
        """
        return LocalAddressPolicy(self.session.observed)

    def note(self, step: str) -> None:
        """
        Put a line into its timeline.
        """
        self.notes.append((self.host.reactor.seconds(), step))

    def _ask(self, command: type[Any], **arguments: Any) -> Deferred[dict[str, Any]]:
        return self._server.asked(self.host, self.session, command, arguments)

    def _find(self, session: bytes) -> Punch | None:
        punch = self.punch
        return punch if punch is not None and punch.ticket.session == session else None

    @property
    def leftovers(self) -> tuple[str, ...]:
        """
        What is open beside what was open after the login.
        """
        sockets = [repr(one) for one in self.host.stack.sockets if one not in self._sockets]
        calls = [f"a delayed call: {one}" for one in self.host.reactor.getDelayedCalls()]
        return (*sockets, *calls)

    # As punchd.peer.punching.Surroundings has it.

    def freshPort(self) -> Deferred[HeldPort]:
        return Deferred.fromCoroutine(self._ports.take(self._server.address(ASSIST)))

    def ordinaryPort(self) -> HeldPort:
        return HeldPort.take(self.host.reactor, self._arrivals)

    def portSeenAt(self, observed: Address) -> HeldPort | None:
        return self._ports.seenAt(observed)

    def release(self, port: HeldPort) -> None:
        self._ports.release(port)

    def tell(
        self, session: bytes, strategy: str, body: bytes, token: bytes | None
    ) -> Deferred[dict[str, Any]]:
        self.told += 1
        return self._ask(Tell, session=session, strategy=strategy, body=body, token=token)

    # The end.

    def close(self) -> None:
        """
        Leave the server, and close every port.
        """
        if self._session is not None:
            self._server.leave(self._session)
            self._server.observed.pop(self.host.name, None)
        self._ports.releaseAll()
        if self.leased is not None:
            for router in self.host.routers:
                router.forwards.pop(self.leased.number, None)
            self.leased.close()
        if self._master is not None and self._master.transport is not None:
            self._master.transport.abortConnection()
        self.port.close()
