"""
The callee's side of introductions, and the services behind it.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from punchd.errors import PunchdError, Refused
from punchd.identity.pins import Pins
from punchd.interfaces import IAccessPolicy
from punchd.link.stream import Stream
from punchd.net.splicing import spliceEnds, tuneLocal
from punchd.peer.conversation import Call
from punchd.peer.links import Links
from punchd.peer.master import MasterClient
from punchd.peer.punches import Punches
from punchd.values.addresses import Address, showAddress
from punchd.values.parties import Situation
from punchd.values.peers import PeerID
from punchd.wire.frames import FULL_DATA
from punchd.wire.preamble import Side


@define(eq=False)
class Exposures:
    """
    The services of this peer: opens a local connection for each stream that asks for one, or gives
    it to whoever takes it.

    @ivar services: by name, the endpoint behind it.
    @ivar takers: by name, what is called with a stream and its caller, and agrees or refuses.
    """

    services: dict[str, IStreamClientEndpoint]
    _policy: IAccessPolicy
    takers: dict[str, Callable[[Stream, PeerID], None]] = field(factory=dict, init=False)

    @property
    def names(self) -> list[str]:
        """
        All services.
        """
        return sorted({*self.services, *self.takers})

    def expose(self, service: str, taker: Callable[[Stream, PeerID], None]) -> Callable[[], None]:
        """
        Add a service.

        @return: what removes it.
        @raise Refused: when there is one of that name.
        """
        if service in self.services or service in self.takers:
            raise Refused(f"a service {service!r} is exposed already: choose another name")
        self.takers[service] = taker

        def remove() -> None:
            self.takers.pop(service, None)

        return remove

    def serve(self, stream: Stream, peerID: PeerID) -> None:
        """
        A peer has elected C{stream}; connect the service that it asks for, or refuse.
        """
        service = stream.service or ""
        if not service:
            stream.agree()
            return
        endpoint = self.services.get(service)
        isExposed = endpoint is not None or service in self.takers
        if not isExposed or not self._policy.permits(peerID, service):
            reason = "is not allowed to this peer" if isExposed else "is not exposed here"
            stream.refuse(f"the service {service!r} {reason}")
            return
        if endpoint is None:
            self.takers[service](stream, peerID)
            return
        remote, local = spliceEnds()
        factory = Factory.forProtocol(lambda: local)
        factory.noisy = False
        connecting = endpoint.connect(factory)

        def connected(_: object) -> None:
            if stream.isOver:
                local.transport.abortConnection()
                return
            tuneLocal(local.transport, FULL_DATA)
            stream.agree()
            stream.carry(remote)

        def failed(failure: Failure) -> None:
            if not stream.isOver:
                stream.refuse(
                    f"the service {service!r} does not answer there: {failure.getErrorMessage()}"
                )

        connecting.addCallbacks(connected, failed)
        stream.whenOver().addCallback(lambda _: connecting.cancel())


@define(eq=False)
class Answering:
    """
    What a peer does when a server of its own introduces somebody. Made for each L{MasterClient}.
    """

    _client: MasterClient
    _pins: Pins
    _policy: IAccessPolicy
    _punches: Punches
    _links: Links
    _exposures: Exposures

    def called(self, call: Call) -> None:
        client, peerID = self._client, call.caller
        peer = self._pins.nameOf(peerID)
        if peer is None or not self._policy.admits(peerID):
            self._punches.note(f"declines to be introduced to {peerID.short}…: not trusted here")
            raise Refused("this peer does not trust that one")
        if not client.policy.allowsReflexive(call.other.reflexive):
            self._punches.note(
                f"declines to be introduced to {peer}: {showAddress(call.other.reflexive)} is no "
                "address for us to dial"
            )
            raise Refused("that is no address for this peer to dial")
        if self._punches.find(call.session) is not None:
            raise Refused("that introduction is under way")
        punch = self._punches.make(
            client,
            Side.CALLEE,
            call.session,
            peerID,
            peer,
            Situation(caller=call.other, callee=call.own),
            client.port,
        )
        client.usedToward[peerID] += 1

        def won(stream: Stream) -> None:
            link = self._links.to(peer, peerID)
            link.opened(stream, punch)
            stream.whenOver().addCallback(lambda _: client.free(peerID))
            self._exposures.serve(stream, peerID)

        def lost(failure: Failure) -> None:
            client.free(peerID)
            if isinstance(failure.value, PunchdError):
                self._links.to(peer, peerID).failed(failure.value)

        self._punches.run(punch).addCallbacks(won, lost)

    def told(self, session: bytes, strategy: str, body: bytes, observed: Address | None) -> None:
        self._punches.told(session, strategy, body, observed)

    def relayNoted(self, session: bytes, reason: str, isOver: bool) -> None:
        what = "the relayed path ends" if isOver else "the relayed path is slowed down"
        self._punches.note(f"{what}: {reason}", session)
