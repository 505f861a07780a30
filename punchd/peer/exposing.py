"""
The services of this peer, and the streams to them.
"""

from __future__ import annotations

from attrs import define
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from punchd.interfaces import IAccessPolicy
from punchd.link.stream import Stream
from punchd.net.splicing import spliceEnds, tuneLocal
from punchd.values.peers import PeerID
from punchd.wire.frames import FULL_DATA


@define(eq=False)
class Exposures:
    """
    The services of this peer: opens a local connection for each stream that asks for one.

    @ivar services: by name, the endpoint behind it.
    """

    services: dict[str, IStreamClientEndpoint]
    _policy: IAccessPolicy

    def serve(self, stream: Stream, peerID: PeerID) -> None:
        """
        A peer has elected C{stream}; connect the service that it asks for, or refuse.
        """
        service = stream.service or ""
        endpoint = self.services.get(service)
        if endpoint is None or not self._policy.permits(peerID, service):
            reason = "is not exposed here" if endpoint is None else "is not allowed to this peer"
            stream.refuse(f"the service {service!r} {reason}")
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
