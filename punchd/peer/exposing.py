"""
The services of this peer, and the streams to them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from attrs import define, field
from twisted.logger import Logger
from twisted.python.failure import Failure

from punchd.errors import Refused
from punchd.interfaces import IAccessPolicy
from punchd.link.stream import Stream
from punchd.net.splicing import Splices, tuneLocal
from punchd.peer.exposure import Exposure
from punchd.values.addresses import Ends
from punchd.values.peers import PeerAddress, PeerID
from punchd.wire.frames import GOOD_READ

_log = Logger()


@define(eq=False)
class Exposures:
    """
    The services of this peer: opens a local connection for each stream that asks for one, or gives
    it to whoever takes it.

    @ivar services: by name, what is behind it.
    @ivar takers: by name, what is called with a stream, and agrees or refuses.
    """

    services: dict[str, Exposure]
    _policy: IAccessPolicy
    _splices: Splices = field(factory=Splices)
    takers: dict[str, Callable[[Stream], None]] = field(factory=dict, init=False)

    @property
    def names(self) -> list[str]:
        """
        All services.
        """
        return sorted({*self.services, *self.takers})

    def expose(self, service: str, taker: Callable[[Stream], None]) -> Callable[[], None]:
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

    def serve(self, stream: Stream, peerID: PeerID, ends: Ends | None = None) -> None:
        """
        A peer has elected C{stream}; connect the service that it asks for, or refuse.

        @param ends: of the path over which it was asked; C{None} if they are not known.
        """
        service = stream.service or ""
        exposure = self.services.get(service)
        isExposed = exposure is not None or service in self.takers
        if not isExposed or not self._policy.permits(peerID, service):
            reason = "is not allowed to this peer" if isExposed else "is not exposed there"
            stream.refuse(f"the service {service!r} {reason}")
            return
        try:
            if exposure is None:
                self.takers[service](stream)
            else:
                self._connect(exposure, service, stream, ends)
        except Exception as error:
            # Not ours, and no reason to end the path that has brought the question.
            _log.failure("the service {service} has a bug", service=service)
            stream.refuse(f"a bug in the service {service!r}: {type(error).__name__}")
            # Perhaps it has agreed before.
            stream.abortConnection()

    def _connect(self, exposure: Exposure, service: str, stream: Stream, ends: Ends | None) -> None:
        remote, local = self._splices.pair()
        connecting = exposure.connect(local, ends, cast(PeerAddress, stream.getPeer()))

        def connected(_: object) -> None:
            if stream.isOver:
                local.transport.abortConnection()
                return
            tuneLocal(local.transport, GOOD_READ)
            stream.agree()
            stream.carry(remote)

        def failed(failure: Failure) -> None:
            if not stream.isOver:
                stream.refuse(
                    f"the service {service!r} does not answer there: {failure.getErrorMessage()}"
                )

        connecting.addCallbacks(connected, failed)
        stream.whenOver().addCallback(lambda _: connecting.cancel())
