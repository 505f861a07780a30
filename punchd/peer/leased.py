"""
The port of a peer that its router lets anybody in to: held, leased, proven by each server, and then
named in what the peer offers. Strategy C{mapped} lives on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, evolve, frozen
from twisted.application.service import Service
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from punchd.errors import PunchdError
from punchd.nat.leases import Leases
from punchd.nat.wish import Wish
from punchd.net.held import HeldPort
from punchd.peer.arrivals import Arrivals
from punchd.peer.conversation import Welcome
from punchd.peer.master import MasterClient
from punchd.peer.ports import inBackground
from punchd.peer.punches import Punches
from punchd.values.addresses import Address, Scope, scopeOf, showAddress
from punchd.values.parties import Offer

_log = Logger()

#: Seconds between two looks at what has changed: a server's welcome, or the lease.
GLANCE = 1.0

#: Seconds until a server is asked again for a proof, when the one before was good; a lease that has
#: vanished without a word is noticed by then. And when it was not.
PROVE_AGAIN = 600.0
RETRY = 60.0


def hasNatBefore(client: MasterClient) -> bool | None:
    """
    Whether addresses are translated between a peer and this server; C{None} if that is not known,
    or if there is no leased port that could help.
    """
    welcome = client.welcome
    if welcome is None or not isinstance(welcome.observed, IPv4Address):
        return None
    observed = welcome.observed
    if any(one.host == observed.host for one in client.offerFor(Offer(), client.port).hosts):
        return False
    return True if scopeOf(observed) is Scope.GLOBAL else None


@frozen(eq=False)
class _Claim:
    """
    What was, or is being, proven to one server.
    """

    welcome: Welcome
    external: Address


@define(eq=False)
class _Proof:
    """
    How far it is with one server.

    @ivar again: when the server is to be asked again, on the clock.
    @ivar said: the latest bad news of it, which is told once.
    """

    claim: _Claim | None = None
    again: float = 0.0
    isAsked: bool = False
    said: str = ""


class LeasedPort(Service):
    """
    Made with the peer; runs as long as it does. All it does is in the background, and nothing is
    asked of any router before a server sees the peer behind a NAT.
    """

    def __init__(
        self,
        reactor: Any,
        clients: Sequence[MasterClient],
        leases: Leases,
        arrivals: Arrivals,
        punches: Punches,
        note: Callable[[str], None],
    ) -> None:
        self._reactor = reactor
        self._clients = clients
        self._leases = leases
        self._arrivals = arrivals
        self._punches = punches
        self._note = note
        self._port: HeldPort | None = None
        self._wish: Wish | None = None
        self._problem = ""
        self._proofs = {client: _Proof() for client in clients}
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor

    def startService(self) -> None:
        super().startService()
        self._looking.start(GLANCE, now=False)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        if self._looking.running:
            self._looking.stop()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        wish, self._wish = self._wish, None
        port, self._port = self._port, None
        if wish is not None:
            await wish.drop()
        if port is not None:
            await port.close()

    @property
    def external(self) -> Address | None:
        """
        Where anybody can dial the port, as the router says.
        """
        lease = None if self._wish is None else self._wish.lease
        return None if lease is None else lease.external

    def _look(self) -> None:
        try:
            self._lookOnce()
        except Exception:
            # The next look does not suffer from it.
            _log.failure("while looking after the leased port")

    def _lookOnce(self) -> None:
        if self._wish is None and any(map(hasNatBefore, self._clients)):
            self._want()
        for client, proof in self._proofs.items():
            self._lookAt(client, proof)

    def _seen(self) -> set[str]:
        """
        The hosts that servers see us at.
        """
        welcomes = [client.welcome for client in self._clients]
        return {welcome.observed.host for welcome in welcomes if welcome is not None}

    def _want(self) -> None:
        try:
            port = HeldPort.take(self._reactor, self._arrivals)
        except PunchdError as error:
            self._complain(str(error))
            return
        try:
            port.listen()
        except CannotListenError as error:
            port.close()
            self._complain(f"cannot listen: {error.socketError}")
            return
        self._port = port
        self._wish = self._leases.want(port.number, self._look)

    def _complain(self, problem: str) -> None:
        """
        There is no port for the router now; it is tried again, and said once.
        """
        if problem != self._problem:
            self._problem = problem
            self._note(f"has no port for the router to lead to: {problem}")

    def _lookAt(self, client: MasterClient, proof: _Proof) -> None:
        external, welcome = self.external, client.welcome
        claim = proof.claim
        if external is None or welcome is None:
            if claim is not None:
                proof.claim = None
                self._count(client, False)
            return
        now = self._reactor.seconds()
        isNew = claim is None or claim.welcome is not welcome or claim.external != external
        if not isNew and (proof.isAsked or now < proof.again):
            return
        if isNew and external.host != welcome.observed.host and self._wish is not None:
            self._count(client, False)
            if not self._wish.doubt(self._seen()):
                return
        if isNew:
            self._count(client, False)
            claim = proof.claim = _Claim(welcome, external)
        assert claim is not None
        proof.isAsked = True
        inBackground(self._prove(client, proof, claim))

    async def _prove(self, client: MasterClient, proof: _Proof, claim: _Claim) -> None:
        port = self._port
        assert port is not None
        where, seen = client.join.where, claim.welcome.observed.host
        wasProven = client.leased is not None
        why = ""
        isProven = False
        try:
            isProven = await client.prove(port, claim.external)
        except PunchdError as error:
            why = str(error)
        except CannotListenError as error:
            why = f"cannot listen: {error.socketError}"
        if proof.claim is not claim:
            return
        proof.isAsked = False
        proof.again = self._reactor.seconds() + (PROVE_AGAIN if isProven else RETRY)
        shown = showAddress(claim.external)
        if isProven:
            proof.said = ""
            if not wasProven:
                self._note(f"the server at {where} finds us at {shown}")
        else:
            if seen != claim.external.host:
                why = f"it sees us at {seen}, so another NAT stands before our router"
            told = f": {why}" if why else ""
            line = f"the server at {where} does not find us at {shown}{told}"
            if line != proof.said:
                self._note(line)
            proof.said = line
            if wasProven and self._wish is not None:
                # The router may have lost it without a word.
                self._wish.make()
        self._count(client, isProven)

    def _count(self, client: MasterClient, isProven: bool) -> None:
        """
        That server passes our leased address on from now on, or does not.
        """
        was = client.leased is not None
        client.leased = self._port if isProven else None
        isAnywhere = any(one.leased is not None for one in self._clients)
        external = self.external
        mapped = (external,) if isAnywhere and external is not None else ()
        offer = self._punches.offer
        if offer.mapped != mapped:
            self._punches.offer = evolve(offer, mapped=mapped)
            changed = list(self._clients)
        else:
            changed = [client] if was != isProven else []
        for one in changed:
            one.update()
