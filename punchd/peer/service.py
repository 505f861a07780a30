"""
A peer, put together.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random, SystemRandom
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, execute, fail, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from zope.interface import implementer

from punchd.errors import ConfigurationError, PunchdError
from punchd.hooks.command import Command
from punchd.hooks.telling import makeTeller
from punchd.identity.certificates import selfSigned
from punchd.identity.folder import StateFolder
from punchd.identity.keys import Identity
from punchd.identity.pins import Pins
from punchd.identity.tls import makeContext
from punchd.interfaces import IObserver, IStrategy, IStreamExposer, IStreamOpener
from punchd.link.flow import Limits
from punchd.nat.gateway import findGateway
from punchd.nat.leases import Leases
from punchd.nat.mapping import mappersFor
from punchd.net.awake import Awake
from punchd.net.backlog import BACKLOG
from punchd.net.splicing import Splices
from punchd.observers import LoggingObserver
from punchd.peer.access import AllowList
from punchd.peer.announcing import Announcing
from punchd.peer.answering import Answering
from punchd.peer.arrivals import Arrivals
from punchd.peer.connecting import Connecting
from punchd.peer.control import SOCKET, Answers, ControlFactory, clearSocket
from punchd.peer.conversation import Greeting
from punchd.peer.describing import describeServer, findNat
from punchd.peer.dialling import Dialling
from punchd.peer.experience import Experience
from punchd.peer.exposing import Exposures
from punchd.peer.exposure import Exposure
from punchd.peer.forwarding import Target, describeForward
from punchd.peer.guesses import MOST_GUESSES, Guesses
from punchd.peer.leased import LeasedPort
from punchd.peer.links import Links
from punchd.peer.master import MasterClient
from punchd.peer.publishing import Publication, Publishing, publishedOf
from punchd.peer.punches import Punches
from punchd.peer.serving import Serving
from punchd.peer.socks import makeForward
from punchd.peer.telling import Telling
from punchd.strategies.mapped import Mapped
from punchd.strategies.planning import GUESSING, preferred
from punchd.values.joining import JoinAddress
from punchd.values.naming import UNLISTED
from punchd.values.parties import Offer
from punchd.values.peers import PeerAddress, checkedName
from punchd.wire.versions import LINK_ALPN, MASTER_ALPN

if TYPE_CHECKING:
    from punchd.interfaces import StreamTaker

#: Seconds that other peers have to hear that this one ends.
FAREWELL = 1.0


@implementer(IStreamOpener, IStreamExposer)
class PunchdPeer(Service):
    """
    Made by the C{punchd-peer} plugin, or by a program that has a peer inside. It runs from
    C{startService} to C{stopService}, whose Deferred fires when everything is closed.

    @ivar identity: this peer's key.
    @ivar opener: opens streams to other peers' services.
    @ivar links: the links to them.
    """

    def __init__(
        self,
        *,
        reactor: Any,
        folder: StateFolder,
        name: str,
        servers: Sequence[JoinAddress],
        strategies: Mapping[str, IStrategy],
        order: Sequence[str] | None = None,
        exposures: Mapping[str, Exposure] | None = None,
        forwards: Sequence[tuple[str, IStreamServerEndpoint, Target | None]] = (),
        publications: Sequence[Publication] = (),
        isListed: bool = False,
        allow: Sequence[str] = (),
        roots: Path | str = "system",
        guesses: int = MOST_GUESSES,
        takesRelay: bool = True,
        limits: Limits | None = None,
        onChange: Command | None = None,
        awake: Awake | None = None,
        observer: IObserver | None = None,
        random: Random | None = None,
        entropy: Callable[[int], bytes] = os.urandom,
        now: Callable[[], float] = time.time,
    ) -> None:
        """
        @param strategies: those that are installed, by name.
        @param order: the names of those to be used, best first; by default all.
        @param forwards: for each, what the person called it, where to listen, and what for; C{None}
            for everything, by SOCKS.
        @param publications: which of the exposures anybody may reach, and where.
        @param isListed: whether its name and address shall be in the DNS of the servers.
        @param allow: rules as in C{--allow}.
        @param now: the wall clock.
        @param roots: what vouches for servers without a pin: a PEM file, or C{"system"}.
        @param guesses: SYNs that guessing ports may cost in one introduction; with 0, nothing is
            guessed.
        @param limits: what one link may take.
        @param takesRelay: whether paths through a server's relay are taken.
        @param onChange: what is run when this peer's address, what it publishes, or a path changes.
        @param awake: what lets local connections wait awake for answers that come soon.
        @raise ConfigurationError: when something of this is not usable.
        """
        self.name = self._name = name
        self.folder = folder
        self.identity = Identity.inFolder(folder)
        self.pins = Pins.inFolder(folder)
        self._reactor = reactor
        self._forwards = self._forwardsWaiting = tuple(forwards)
        self._listening: list[IListeningPort] = []
        self._control: list[IListeningPort] = []
        self._splices = Splices(awake)
        self._ending: list[Deferred[Any]] = []
        self._policy = AllowList.parse(self.pins, list(allow))
        credentials = selfSigned(self.identity)
        names = preferred(list(strategies)) if order is None else list(order)
        if not guesses:
            names = [name for name in names if name not in GUESSING]
        offer = Offer(
            strategies=tuple((name, strategies[name].version) for name in names),
            takesRelay=takesRelay,
        )
        chance = random or SystemRandom()
        self.punches = Punches(
            reactor,
            chance,
            entropy,
            makeContext(credentials, LINK_ALPN),
            dict(strategies),
            observer or LoggingObserver(),
            name,
            offer,
            Experience.inFolder(folder, reactor, now),
            Guesses.of(reactor, guesses),
        )
        self._exposures = Exposures(dict(exposures or {}), self._policy, self._splices)
        arrivals = Arrivals(reactor, self.punches.find)
        pinned = makeContext(credentials, MASTER_ALPN, lean=True)
        named = pinned
        if any(join.pin is None for join in servers):
            named = makeContext(credentials, MASTER_ALPN, roots, lean=True)
        self.clients: list[MasterClient] = []
        dialling = Dialling(self.clients, self.punches)
        self.links = Links(
            reactor, chance, entropy, self.address, dialling, self._exposures, limits or Limits()
        )
        for join in servers:
            client = MasterClient(
                reactor,
                chance,
                entropy,
                join,
                pinned if join.pin is not None else named,
                arrivals,
                self._answering,
                self._greeting,
                self.punches.note,
            )
            self.clients.append(client)
        self.opener = Connecting(self.pins, self.links, dialling)
        note = self.punches.note
        self._leases = Leases(
            reactor, chance, findGateway, partial(mappersFor, reactor, chance, entropy), note
        )
        self._leased = LeasedPort(reactor, self.clients, self._leases, arrivals, self.punches, note)
        self._usesLeases = Mapped.name in names
        published = publishedOf(
            reactor,
            self._leases,
            self.identity.peerID,
            publications,
            exposures or {},
            note,
            self._splices,
        )
        self._publishing = Publishing(reactor, self.clients, published)
        self._announcing = Announcing(reactor, self.clients, name, published, isListed, note)
        self._telling: Telling | None = None
        if onChange is not None:
            teller = makeTeller(reactor, onChange, folder)
            known = (self.clients, published, self.links)
            self._telling = Telling(reactor, teller, self.address, *known)

    def _answering(self, client: MasterClient) -> Answering:
        return Answering(client, self.pins, self._policy, self.punches, self.links)

    def _greeting(self) -> Greeting:
        return Greeting(self._name, self._policy.admitted(), self.punches.offer)

    def pinsChanged(self) -> None:
        """
        Other peers are trusted than before, or under other names: the links and the servers must
        know.
        """
        self.links.pinsChanged(self.pins.nameOf)
        for client in self.clients:
            client.update()

    def listen(self) -> None:
        """
        Take the forwards' ports; C{startService} does it too, if this was not called before.

        @raise ConfigurationError: when one is not to be had, or another peer runs with this state
            folder; no port is taken then.
        """
        clearSocket(self.folder)
        waiting, self._forwardsWaiting = self._forwardsWaiting, ()
        try:
            for text, endpoint, target in waiting:
                factory = makeForward(self._reactor, self.opener, self.pins, target, self._splices)
                self._listen(endpoint.listen(factory), f"--forward {text}")
        except ConfigurationError:
            self._stopListening()
            raise

    def startService(self) -> None:
        """
        @raise ConfigurationError: when a port or the control socket is not to be had; nothing is
            left open then.
        """
        super().startService()
        try:
            self.listen()
            self._listenForControl()
        except ConfigurationError:
            self._stopListening()
            raise
        for client in self.clients:
            client.startService()
        self._leases.startService()
        self._publishing.startService()
        self._announcing.startService()
        if self._telling is not None:
            self._telling.startService()
        if self._usesLeases:
            self._leased.startService()
        wanted = set()
        for text, _, target in self._forwards:
            self.punches.note(f"forwards {text} to {target or 'any SERVICE.PEER'}")
            wanted |= {target.peer} if target is not None else set()
        missing = wanted - {pin.name for pin in self.pins}
        for name in sorted(missing):
            self.punches.note(
                f"a forward leads to {name}, but nobody is pinned under that name yet"
            )
        for name in self._policy.strangers():
            self.punches.note(f"--allow names {name}, but nobody is pinned under that name yet")

    def _listen(self, listening: Deferred[IListeningPort], what: str) -> None:
        failures: list[Any] = []
        listening.addCallbacks(self._listening.append, failures.append)
        for failure in failures:
            error = failure.value
            reason = getattr(error, "socketError", None)
            text = getattr(reason, "strerror", None) or str(error)
            raise ConfigurationError(f"{what}: cannot listen: {text}")

    def _listenForControl(self) -> None:
        clearSocket(self.folder)
        path = self.folder.file(SOCKET)
        answers = Answers(
            self.pins,
            self.opener,
            self.links,
            self.describe,
            self.pinsChanged,
            self.findNat,
            Serving(self._reactor, self),
            self.address,
            self._splices,
        )
        factory = ControlFactory(self._reactor, answers)
        try:
            port = self._reactor.listenUNIX(str(path), factory, BACKLOG, 0o600)
        except CannotListenError as error:
            raise ConfigurationError(
                f"cannot make the control socket {path}: {error.socketError}"
            ) from None
        self._control.append(port)

    def _stopListening(self) -> Deferred[Any]:
        ports = [*self._listening, *self._control]
        self._listening, self._control = [], []
        return DeferredList([maybeDeferred(port.stopListening) for port in ports])

    def drain(self) -> Deferred[Any]:
        """
        Begin to end: take nobody's connections any more, leave the DNS, open no streams.

        @return: fires when the streams that there are have finished, every byte of them. What has
            not by then, L{stopService} breaks.
        """
        # Nothing has changed because this peer ends.
        self._end(self._telling, self._announcing)
        for client in self.clients:
            client.listing = UNLISTED
            client.update()
        self._publishing.close()
        ports, self._listening = self._listening, []
        return DeferredList(
            [
                *(maybeDeferred(port.stopListening) for port in ports),
                self.links.drain(),
                self._splices.whenNone(),
            ],
            consumeErrors=True,
        )

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._end(self._telling, self._announcing, self._publishing, self._leased, self._leases)
        await self._stopListening()
        self.opener.stop()
        farewell = self.links.abort().addTimeout(FAREWELL, self._reactor, lambda *_: None)
        self.punches.stop()
        for client in self.clients:
            if client.running:
                await client.stopService()
        await farewell
        await DeferredList(self._ending)

    def _end(self, *services: Service | None) -> None:
        """
        Stop those of them that are there, and run.
        """
        for one in services:
            if one is not None and one.running:
                self._ending.append(maybeDeferred(one.stopService))

    @property
    def address(self) -> PeerAddress:
        """
        What streams call this end.
        """
        return PeerAddress(self._name, self.identity.peerID)

    def openStream(self, peer: str, service: str) -> Deferred[Any]:
        return self.opener.openStream(peer, service)

    def expose(self, service: str, taker: StreamTaker) -> Deferred[Callable[[], Deferred[None]]]:
        try:
            remove = self._exposures.expose(checkedName(service, "service"), taker)
        except PunchdError as error:
            return fail(error)
        return succeed(lambda: execute(remove))

    @property
    def isReady(self) -> bool:
        """
        Whether introductions are possible now.
        """
        return any(client.isConnected for client in self.clients)

    async def findNat(self, again: bool) -> dict[str, Any]:
        """
        See L{punchd.peer.describing.findNat}.
        """
        return await findNat(self.clients, self._reactor, again)

    def describe(self) -> dict[str, Any]:
        """
        As C{punchd status --json} shows it.
        """
        return {
            "name": self.name,
            "id": str(self.identity.peerID),
            "pid": os.getpid(),
            "master": "connected" if self.isReady else "connecting",
            "servers": [
                describeServer(client, self._announcing.nameAt(client)) for client in self.clients
            ],
            "exposes": self._exposures.names,
            "published": self._publishing.toJSON(),
            "forwards": [describeForward(text, target) for text, _, target in self._forwards],
            "links": self.links.toJSON(),
        }
