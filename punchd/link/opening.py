"""
How a stream comes about on a connection that is authenticated: the caller asks for a service, the
callee agrees or refuses, and each may do so once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from typing import Protocol as Typing

from automat import TypeMachineBuilder
from twisted.internet.defer import Deferred

from punchd.errors import Refused
from punchd.wire.frames import Kind


class Opened(Typing):
    """
    The stream that is being opened, as far as it matters here.
    """

    service: str | None
    mayReceive: bool
    opened: Deferred[None]
    onAsked: Callable[[Any, str], None]

    def sendFrame(self, kind: Kind, payload: bytes = b"") -> None:
        """Send a frame."""

    def endRefused(self) -> None:
        """There will be no stream; the connection goes."""


class Opening(Typing):
    """
    How a stream comes about: what either end may do.
    """

    def elect(self, service: str) -> None:
        """The caller takes this connection, and asks for a service."""

    def asked(self, service: str) -> None:
        """The callee hears that."""

    def agree(self) -> None:
        """The callee has connected the service."""

    def agreed(self) -> None:
        """The caller hears that."""

    def refuse(self, why: str) -> None:
        """The callee says no."""

    def refused(self, why: str) -> None:
        """The caller hears that."""


def _machine() -> Callable[[Opened], Opening]:
    # The second type is never instantiated.
    builder = TypeMachineBuilder(Opening, Opened)  # type: ignore[type-abstract]
    proven = builder.state("proven")
    asking = builder.state("asking")
    beingAsked = builder.state("beingAsked")
    agreedOn = builder.state("agreedOn")
    refusedOn = builder.state("refusedOn")

    @proven.upon(Opening.elect).to(asking)
    def elect(opening: Opening, stream: Opened, service: str) -> None:
        stream.service = service
        stream.sendFrame(Kind.OPEN, service.encode("utf-8"))

    @proven.upon(Opening.asked).to(beingAsked)
    def asked(opening: Opening, stream: Opened, service: str) -> None:
        stream.service = service
        # The caller may send before it has our answer; nothing of that may be lost.
        stream.mayReceive = True
        # What the callee answers in here takes effect when this input is done with: inputs queue.
        stream.onAsked(stream, service)

    @beingAsked.upon(Opening.agree).to(agreedOn)
    def agree(opening: Opening, stream: Opened) -> None:
        stream.sendFrame(Kind.OPENED)
        stream.opened.callback(None)

    @asking.upon(Opening.agreed).to(agreedOn)
    def agreed(opening: Opening, stream: Opened) -> None:
        stream.mayReceive = True
        stream.opened.callback(None)

    @beingAsked.upon(Opening.refuse).to(refusedOn)
    def refuse(opening: Opening, stream: Opened, why: str) -> None:
        stream.sendFrame(Kind.REFUSED, why.encode("utf-8"))
        stream.endRefused()

    @asking.upon(Opening.refused).to(refusedOn)
    def refused(opening: Opening, stream: Opened, why: str) -> None:
        stream.opened.errback(Refused(why))
        stream.endRefused()

    return builder.build()


#: Makes the machine of one stream. Inputs that its state does not allow raise
#: L{automat.NoTransition}.
makeOpening = _machine()
