"""
The relay: for two peers between which there is no direct path, or none yet.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from punchd.errors import IncompatibleVersions, ProtocolViolation
from punchd.net.pacing import Allowance
from punchd.server.gate import CLOSING_PATIENCE, Gate
from punchd.server.limits import Complaints, Strangers
from punchd.server.relaypairs import Pair, Pairs, Stage
from punchd.values.addresses import Address, showAddress
from punchd.wire.preamble import Side
from punchd.wire.relaying import OPENING_LENGTH, Opening, checkBeginning, packRefusal

#: Seconds from the accepted connection to the whole opening.
OPENING_PATIENCE = 5.0

#: Connections that are not admitted, and told so: a second and at once. A flood of them is closed
#: without a word.
REFUSALS_PER_SECOND = 5.0
REFUSALS_AT_ONCE = 20.0

#: TCP keep-alive: seconds of idling, between probes, and their number. A host that has vanished is
#: noticed after two minutes.
KEEP_ALIVE = (60, 15, 4)


class RelayConnection(Protocol):
    """
    One end, until its bytes are carried; then nothing comes here but its end.
    """

    # A TCP connection, with more than ITransport says.
    transport: Any

    def __init__(self, gate: RelayGate, address: Address) -> None:
        self._gate = gate
        self._address = address
        self._received = b""
        self._place: tuple[Pair, Side] | None = None
        self._deadline: float | None = gate.now() + OPENING_PATIENCE
        self._isClosing = False

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.transport.setTcpKeepAlive(True)
        handle = self.transport.getHandle()
        for name, value in zip(
            ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT"), KEEP_ALIVE, strict=True
        ):
            if hasattr(socket, name):
                handle.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def dataReceived(self, data: bytes) -> None:
        if self._isClosing:
            return
        if self._place is not None:
            self._drop("speaks before the other end is there")
            return
        self._received += data
        try:
            checkBeginning(self._received)
            if len(self._received) >= OPENING_LENGTH:
                self._opened(Opening.unpack(self._received).token)
        except IncompatibleVersions as error:
            self._gate.complain(self._address, str(error))
            # The answer's head says which version is spoken here.
            self.refuse(str(error))
        except ProtocolViolation as violation:
            self._drop(str(violation))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        place, self._place = self._place, None
        if place is not None:
            self._gate.pairs.lost(*place)
        self._gate.left(self, self._address)

    def sweep(self, now: float) -> None:
        """
        See L{Guest.sweep<punchd.server.gate.Guest>}.
        """
        if self._deadline is not None and now >= self._deadline:
            if not self._isClosing:
                self._gate.complain(
                    self._address, f"no whole opening within {OPENING_PATIENCE:.0f} s"
                )
            self.abort()

    def close(self, reason: str) -> None:
        """
        See L{Guest.close<punchd.server.gate.Guest>}.
        """
        if self._place is None:
            self.refuse(reason)
        elif self._place[0].stage is Stage.WAITING:
            self._gate.pairs.refuse(self._place[0], reason, reason)
        else:
            # What it carries ends in the middle; nobody shall take that for its end.
            self.abort()

    def refuse(self, reason: str) -> None:
        """
        See L{End.refuse<punchd.server.relaypairs.End>}.
        """
        self._isClosing = True
        self._place = None
        self._deadline = self._gate.now() + CLOSING_PATIENCE
        self.transport.write(packRefusal(reason))
        self.transport.loseConnection()

    def abort(self) -> None:
        """
        See L{Guest.abort<punchd.server.gate.Guest>}.
        """
        self.transport.abortConnection()

    def _opened(self, token: bytes) -> None:
        self._received = b""
        self._deadline = None
        place = self._gate.pairs.arrived(token, self)
        if isinstance(place, str):
            self._gate.complain(self._address, place)
            self.refuse(place)
            return
        self._gate.isKnown(self, self._address)
        self._place = place

    def _drop(self, why: str) -> None:
        self._gate.complain(self._address, why)
        self._isClosing = True
        self.abort()


class TurnedAway(RelayConnection):
    """
    One that is not admitted, and is told why.
    """

    def __init__(self, gate: RelayGate, address: Address, refusal: str) -> None:
        super().__init__(gate, address)
        self._refusal = refusal
        self._isClosing = True
        self._deadline = gate.now() + CLOSING_PATIENCE

    def connectionMade(self) -> None:
        self.transport.write(packRefusal(self._refusal))

    def dataReceived(self, data: bytes) -> None:
        # Not earlier: closing a connection on which something was not read resets it, and whoever
        # is reset may not get the refusal any more.
        self.transport.loseConnection()

    def close(self, reason: str) -> None:
        self.abort()


class RelayGate(Gate):
    """
    The factory of the relay's connections.
    """

    def __init__(
        self,
        *,
        clock: IReactorTime,
        pairs: Pairs,
        strangers: Strangers,
        complaints: Complaints,
    ) -> None:
        super().__init__(clock=clock, strangers=strangers, complaints=complaints)
        self.pairs = pairs
        self._refusals = Allowance(clock, REFUSALS_PER_SECOND, REFUSALS_AT_ONCE)

    def makeGuest(self, address: Address) -> tuple[RelayConnection, RelayConnection]:
        connection = RelayConnection(self, address)
        return connection, connection

    def turnAway(self, address: Address, refusal: str) -> tuple[TurnedAway, TurnedAway] | None:
        if not self._refusals.take():
            return None
        connection = TurnedAway(self, address, refusal)
        return connection, connection

    def sweep(self) -> None:
        super().sweep()
        self.pairs.sweep()

    def now(self) -> float:
        """
        Seconds on the server's clock.
        """
        return self._clock.seconds()

    def complain(self, address: Address, why: str) -> None:
        """
        A line for the log about a connection.
        """
        self._complaints.say(f"{showAddress(address)}: relay: {why:.200}")
