"""
The door of a service: who is let in, who is inside, and how all are shown out.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IReactorTime
from zope.interface import implementer

from punchd.server.limits import Complaints, Strangers
from punchd.values.addresses import Address, makeAddress, showAddress

#: Seconds that the other end has to close with us, before the connection is torn down.
CLOSING_PATIENCE = 2.0


class Guest(Protocol):
    """
    A connection, as the gate sees it.
    """

    def sweep(self, now: float) -> None:
        """
        Look whether something is due or overdue; called every second.
        """

    def close(self, reason: str) -> None:
        """
        End the connection in an orderly way.
        """

    def abort(self) -> None:
        """
        End the connection at once.
        """


@implementer(IProtocolFactory)
class Gate:
    """
    The factory of a service. Each connection is a stranger from its acceptance until it
    L{isKnown}, and inside until it L{left}.
    """

    def __init__(
        self, *, clock: IReactorTime, strangers: Strangers, complaints: Complaints
    ) -> None:
        self._clock = clock
        self._strangers = strangers
        self._complaints = complaints
        self._inside: dict[Any, bool] = {}
        self._empty: Deferred[None] | None = None

    def doStart(self) -> None:
        """
        A port listens for this gate.
        """

    def doStop(self) -> None:
        """
        A port has ceased to listen for this gate.
        """

    def buildProtocol(self, addr: Any) -> IProtocol | None:
        if not isinstance(addr, IPv4Address | IPv6Address):
            self._complaints.say(f"{addr}: not a TCP connection")
            return None
        # What comes to an IPv6 socket from an IPv4 host is put back into its own form.
        address = makeAddress(addr.host, addr.port)
        refusal = "the server ends" if self._empty is not None else self._strangers.admit(address)
        if refusal is not None:
            self._complaints.say(f"{showAddress(address)}: {refusal}")
            turned = None if self._empty is not None else self.turnAway(address, refusal)
            if turned is None:
                return None
            guest, protocol = turned
            self._inside[guest] = False
            return protocol
        guest, protocol = self.makeGuest(address)
        self._inside[guest] = True
        return protocol

    def turnAway(self, address: Address, refusal: str) -> tuple[Guest, IProtocol] | None:
        """
        For subclasses: make the protocol of a connection that is not admitted, if it shall be told
        why, and what it is to the gate. It ends itself.
        """
        return None

    def makeGuest(self, address: Address) -> tuple[Guest, IProtocol]:
        """
        For subclasses: make the connection's protocol, and what is it to the gate.
        """
        raise NotImplementedError

    def isKnown(self, guest: Guest, address: Address) -> None:
        """
        C{guest} has said who it is.
        """
        if self._inside.get(guest):
            self._inside[guest] = False
            self._strangers.leave(address)

    def left(self, guest: Guest, address: Address) -> None:
        """
        The connection of C{guest} is no more.
        """
        self.isKnown(guest, address)
        self._inside.pop(guest, None)
        if self._empty is not None and not self._inside:
            self._empty.callback(None)

    def sweep(self) -> None:
        """
        Let every guest look at the clock.
        """
        now = self._clock.seconds()
        for guest in list(self._inside):
            guest.sweep(now)

    def showOut(self, reason: str) -> Deferred[None]:
        """
        Close every connection, and let nobody in any more.

        @return: fires when all are closed.
        """
        if not self._inside:
            return succeed(None)
        empty = self._empty = Deferred()
        for guest in list(self._inside):
            guest.close(reason)
        late = self._clock.callLater(CLOSING_PATIENCE, self._throwOut)

        def done(result: None) -> None:
            if late.active():
                late.cancel()

        return empty.addCallback(done)

    def _throwOut(self) -> None:
        for guest in list(self._inside):
            guest.abort()
