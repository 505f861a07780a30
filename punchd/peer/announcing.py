"""
Getting a peer, and what it publishes, into the DNS of its servers: C{--publish-address}, and what
C{--publish} does there.

Servers without a zone are told the same: they may have other ways to pass it on (C{--on-change}).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, frozen
from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from punchd.errors import ConfigurationError, PunchdError
from punchd.peer.conversation import Welcome
from punchd.peer.master import MasterClient
from punchd.peer.ports import inBackground
from punchd.peer.proving import isFoundAt
from punchd.peer.publishing import Published
from punchd.values.addresses import Address, showAddress
from punchd.values.naming import Listing, checkedLabel, isPublishable
from punchd.wire.listing import MOST_PUBLISHED

_log = Logger()

#: Seconds between two looks at what has changed: a server's welcome, or where something is.
GLANCE = 1.0

#: Seconds until a server is asked again for a proof, when the one before was good, and when not.
PROVE_AGAIN = 600.0
RETRY = 60.0


@frozen(eq=False)
class _Claim:
    """
    Where something is published, toward one connection to a server.
    """

    welcome: Welcome
    address: Address


@define(eq=False)
class _Proof:
    """
    How far it is with one service at one server.

    @ivar again: when the server is to be asked again, on the clock.
    @ivar said: the latest bad news, which is told once.
    """

    claim: _Claim | None = None
    again: float = 0.0
    isAsked: bool = False
    isProven: bool = False
    said: str = ""


class Announcing(Service):
    """
    Made with the peer; runs as long as it does.
    """

    def __init__(
        self,
        reactor: Any,
        clients: Sequence[MasterClient],
        name: str,
        published: Sequence[Published],
        hasAddress: bool,
        note: Callable[[str], None],
    ) -> None:
        """
        @param name: the peer's.
        @param hasAddress: whether its name and address shall be in the DNS, whatever it publishes.
        @raise ConfigurationError: when they shall, and the DNS has no such names.
        """
        self._reactor = reactor
        self._clients = clients
        self._name = name
        self._hasAddress = hasAddress
        self._note = note
        if hasAddress:
            checkedLabel(name, "name")
        self._published = [one for one in published if self._canBeNamed(one)][:MOST_PUBLISHED]
        self._told: dict[MasterClient, str] = {}
        self._proofs = {(client, one): _Proof() for client in clients for one in self._published}
        for client in clients:
            client.listing = Listing(hasAddress)
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor

    def _canBeNamed(self, one: Published) -> bool:
        service = one.publication.service
        try:
            checkedLabel(self._name)
        except ConfigurationError as error:
            self._note(f"{service} will not be in the DNS: {error}")
            return False
        if not isPublishable(service):
            self._note(f"{service} will not be in the DNS, which has no such names of services")
            return False
        return True

    def startService(self) -> None:
        super().startService()
        if self._hasAddress or self._published:
            self._looking.start(GLANCE, now=False)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        if self._looking.running:
            self._looking.stop()
        return succeed(None)

    def _look(self) -> None:
        try:
            for client in self._clients:
                self._lookAt(client)
        except Exception:
            # The next look does not suffer from it.
            _log.failure("while seeing to the DNS")

    def _lookAt(self, client: MasterClient) -> None:
        welcome = client.welcome
        if welcome is None:
            return
        self._tell(client, welcome)
        for one in self._published:
            self._lookAtOne(client, one, welcome)
        listing = Listing(
            self._hasAddress,
            tuple(
                (one.publication.service, proof.claim.address.port)
                for one in self._published
                if (proof := self._proofs[client, one]).isProven and proof.claim is not None
            ),
        )
        if listing != client.listing:
            client.listing = listing
            client.update()

    def nameAt(self, client: MasterClient) -> str | None:
        """
        What the peer is called in the DNS of that server, as long as it is there.
        """
        welcome = client.welcome
        if welcome is None or welcome.zone is None or client.listing.isEmpty:
            return None
        return f"{self._name.lower()}.{welcome.zone}"

    def _tell(self, client: MasterClient, welcome: Welcome) -> None:
        """
        Say what the peer is called, once.
        """
        where = client.join.where
        if welcome.zone is not None:
            line = f"the server at {where} names this peer {self._name.lower()}.{welcome.zone}"
        elif self._hasAddress:
            line = f"the server at {where} has no zone in the DNS: nobody finds this peer there"
        else:
            return
        if self._told.get(client) != line:
            self._told[client] = line
            self._note(line)

    def _lookAtOne(self, client: MasterClient, one: Published, welcome: Welcome) -> None:
        proof, address = self._proofs[client, one], one.address
        if address is None or address.host != welcome.observed.host:
            proof.claim, proof.isProven = None, False
            return
        claim = proof.claim
        isNew = claim is None or claim.welcome is not welcome or claim.address != address
        if not isNew and (proof.isAsked or self._reactor.seconds() < proof.again):
            return
        if isNew:
            claim = proof.claim = _Claim(welcome, address)
            proof.isProven = False
        assert claim is not None
        proof.isAsked = True
        inBackground(self._prove(client, one, proof, claim))

    async def _prove(
        self, client: MasterClient, one: Published, proof: _Proof, claim: _Claim
    ) -> None:
        # Without an answer it is as it was.
        why, isProven = "", proof.isProven
        try:
            isProven = await isFoundAt(client, claim.address, one.secrets)
        except PunchdError as error:
            why = f": {error}"
        if proof.claim is not claim:
            return
        isGood = isProven and not why
        proof.isAsked, proof.isProven = False, isProven
        proof.again = self._reactor.seconds() + (PROVE_AGAIN if isGood else RETRY)
        service, where = one.publication.service, client.join.where
        found = "finds" if isGood else "does not find"
        line = f"the server at {where} {found} {service} at {showAddress(claim.address)}{why}"
        if line != proof.said:
            proof.said = line
            self._note(line)
