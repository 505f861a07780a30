"""
All introductions that are under way at a peer.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from attrs import define, evolve, field
from OpenSSL.SSL import Context
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from punchd.errors import Refused
from punchd.interfaces import IObserver, IStrategy
from punchd.link.path import Path
from punchd.link.tickets import Ticket
from punchd.net.held import HeldPort
from punchd.peer.experience import Experience
from punchd.peer.guesses import Allotment, Guesses
from punchd.peer.master import MasterClient
from punchd.peer.punching import Punch
from punchd.strategies.planning import makePlan
from punchd.values.addresses import Address
from punchd.values.happenings import Happening
from punchd.values.parties import Offer, Party, Situation
from punchd.values.peers import PeerID
from punchd.wire.preamble import NONCE_LENGTH, Side


@define(eq=False)
class Punches:
    """
    Makes L{Punch}es and knows them by session while they run. Lives as long as the peer.

    @ivar offer: what this peer offers everywhere: its strategies, best first.
    """

    _clock: IReactorTime
    _random: Random
    _entropy: Callable[[int], bytes]
    _context: Context
    _strategies: dict[str, IStrategy]
    _observer: IObserver
    _who: str
    offer: Offer
    _experience: Experience
    _guesses: Guesses = field(factory=Guesses)
    _bySession: dict[bytes, tuple[Punch, Deferred[Path]]] = field(factory=dict, init=False)
    _isStopped: bool = field(default=False, init=False)

    def offerTo(self, peerID: PeerID, client: MasterClient, port: HeldPort) -> Offer:
        """
        What we offer as the caller of a peer: what has worked between such NATs comes first.
        """
        offer = client.offerFor(self.offer, port)
        versions = dict(offer.strategies)
        own = Party(client.policy.observed, offer)
        names = self._experience.order(own, peerID, list(versions))
        return evolve(offer, strategies=tuple((name, versions[name]) for name in names))

    def make(
        self,
        client: MasterClient,
        side: Side,
        session: bytes,
        peerID: PeerID,
        peer: str,
        situation: Situation,
        port: HeldPort,
    ) -> Punch:
        """
        Our side of an introduction by C{client}'s server.

        @param peer: the name under which we have pinned C{peerID}.
        @raise Refused: when L{stop} was called: servers may still introduce somebody.
        """
        if self._isStopped:
            raise Refused("this peer is being stopped")
        ticket = Ticket(session, side, self._entropy(NONCE_LENGTH), peerID, peer, self._context)
        return Punch(
            clock=self._clock,
            random=self._random,
            ticket=ticket,
            situation=situation,
            policy=client.policy,
            port=port,
            surroundings=client,
            note=lambda step: self.note(step, session),
            strategies=self._strategies,
            plan=makePlan(situation, self._strategies, self._clock.seconds),
            allotment=Allotment(self._guesses),
        )

    def run(self, punch: Punch) -> Deferred[Path]:
        """
        Run it; as long as it does, connections and messages find it.

        @return: as L{Punch.run}.
        """
        session = punch.ticket.session
        # Registered before it starts: the first connection may come in the same moment.
        self._bySession[session] = (punch, Deferred())
        running = punch.run()
        self._bySession[session] = (punch, running)

        def over(result: Path) -> Path:
            self._bySession.pop(session, None)
            self._experience.learn(punch)
            return result

        return running.addBoth(over)

    def find(self, session: bytes) -> Punch | None:
        """
        The introduction that has this session, if it is under way.
        """
        found = self._bySession.get(session)
        return None if found is None else found[0]

    def told(self, session: bytes, strategy: str, body: bytes, observed: Address | None) -> None:
        """
        The other half of a strategy has sent a message.
        """
        punch = self.find(session)
        if punch is not None:
            punch.told(strategy, body, observed)

    def note(self, step: str, session: bytes = b"") -> None:
        """
        Tell the observer.
        """
        self._observer.happened(Happening(self._who, session.hex(), step, self._clock.seconds()))

    def stop(self) -> None:
        """
        End all of them; there will be no more.
        """
        self._isStopped = True
        for _, running in list(self._bySession.values()):
            running.cancel()
        self._experience.close()
