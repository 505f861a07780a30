"""
What guessing ports may cost: a probe is a SYN to a port that may be somebody else's, and a session
in both NATs' tables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IReactorTime

from punchd.net.held import HeldPort
from punchd.net.pacing import Allowance
from punchd.net.spraying import Spray
from punchd.values.addresses import Address, makeAddress
from punchd.values.outcomes import Result, Try, Way, showWhere
from punchd.values.parties import LocalAddressPolicy

#: SYNs that one side of an introduction may spend on guesses, if nobody says otherwise.
MOST_GUESSES = 2000

#: Sockets that wait for an answer to a guess at a time, those of all introductions together: a NAT
#: in front of us holds a session for each, and home routers have room for a thousand or two.
MOST_HALF_OPEN = 512

#: What all introductions of a peer may spend in the long run, in shares of what one may: so many
#: ones at once, and one every so many seconds. A server decides when a peer guesses, and where.
AT_ONCE = 10
SECONDS_FOR_ONE = 10.0

#: The least port that is guessed: those below belong to well-known services (RFC 6335, 6), and no
#: NAT gives them out for others.
FIRST_GUESSED = 1024

# The server passes on what it has seen of the other side's ports, a few to an attempt; and what
# came of sockets is of a few kinds.
_MOST_OBSERVED = 64
_MOST_KINDS = 64


@define(eq=False)
class Guesses:
    """
    Made by the peer; lives as long as it.

    @ivar most: SYNs that each introduction may spend; with 0, nothing is guessed.
    @ivar halfOpen: how many wait for an answer now.
    """

    most: int = MOST_GUESSES
    _pace: Allowance | None = None
    halfOpen: int = field(default=0, init=False)

    @classmethod
    def of(cls, clock: IReactorTime, most: int) -> Guesses:
        """
        Those of a peer that lives by C{clock}.
        """
        return cls(most, Allowance(clock, most / SECONDS_FOR_ONE, float(most * AT_ONCE)))

    def paced(self, wanted: int) -> int:
        """
        How many of C{wanted} guesses may be made now, whichever introduction they are for.
        """
        return wanted if self._pace is None else self._pace.takeUpTo(wanted)


@define(eq=False)
class Allotment:
    """
    What one introduction may still spend. Made for each.
    """

    _guesses: Guesses = field(factory=Guesses)
    left: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.left = self._guesses.most

    def take(self, wanted: int) -> int:
        """
        Take sockets for as many guesses as there may be, up to C{wanted}; L{ended} is to be called
        for each.
        """
        granted = max(0, min(wanted, self.left, MOST_HALF_OPEN - self._guesses.halfOpen))
        granted = self._guesses.paced(granted)
        self.left -= granted
        self._guesses.halfOpen += granted
        return granted

    def ended(self) -> None:
        """
        One that was taken waits no longer.
        """
        self._guesses.halfOpen -= 1

    def spared(self, number: int) -> None:
        """
        So many that were taken were not used.
        """
        self.left += number
        self._guesses.halfOpen -= number


@define(eq=False)
class Sprays:
    """
    The guesses of one attempt; lives as long as it.

    @ivar observed: where the server has seen the other side in this introduction.
    """

    _reactor: Any
    _allotment: Allotment
    _policy: LocalAddressPolicy
    _note: Callable[[str], None]
    observed: set[Address]
    _tally: dict[tuple[Address, Result, str], Try] = field(factory=dict, init=False)

    def saw(self, address: Address) -> None:
        """
        The server has seen the other side at C{address}, too.
        """
        if len(self.observed) < _MOST_OBSERVED:
            self.observed.add(address)

    @property
    def tries(self) -> tuple[Try, ...]:
        """
        What came of all sockets, counted.
        """
        return tuple(self._tally.values())

    def dial(
        self,
        remotes: Sequence[Address],
        port: HeldPort | None,
        patience: float,
        factory: IProtocolFactory,
        prove: Callable[[IProtocol], Deferred[Any]],
    ) -> Deferred[IProtocol]:
        """
        As L{IAttempt.spray<punchd.interfaces.IAttempt.spray>}, but for the outcome.

        @return: as L{Spray.dial}.
        """
        allowed = [remote for remote in remotes if self._allows(remote, port)]
        if len(allowed) < len(remotes):
            self._note(
                f"leaves {len(remotes) - len(allowed)} guesses out: the server has not seen the "
                "other side at that host, or these are no ports to be guessed"
            )
        granted = self._allotment.take(len(allowed))
        if granted < len(allowed):
            self._note(
                f"leaves {len(allowed) - granted} guesses out: of this introduction's, "
                f"{self._allotment.left} are left, and at most {MOST_HALF_OPEN} of all wait at a "
                "time"
            )
        began = self._reactor.seconds()
        together = _together(allowed)

        def ended(remote: Address, result: Result, detail: str) -> None:
            self._allotment.ended()
            where = remote if together is None or result is Result.CONNECTED else together
            self._count(where, result, detail, self._reactor.seconds() - began)

        spray = Spray(self._reactor, port, prove, ended)
        dialling = spray.dial(allowed[:granted], factory, patience)
        self._allotment.spared(granted - spray.dialled)
        if spray.leftOut:
            self._note(
                f"leaves {granted - spray.dialled} guesses out: no sockets for them "
                f"({spray.leftOut})"
            )
        if spray.dialled:
            source = "new ports" if port is None else f"port {port.number}"
            self._note(
                f"dials {showWhere(together or allowed[0])} with {spray.dialled} sockets "
                f"from {source}"
            )
        return dialling

    def _allows(self, remote: Address, port: HeldPort | None) -> bool:
        isSeen = remote in self.observed or (
            remote.port >= FIRST_GUESSED and any(remote.host == one.host for one in self.observed)
        )
        reaches = port is None or port.reaches(remote)
        return isSeen and reaches and self._policy.allowsReflexive(remote)

    def _count(self, remote: Address, result: Result, detail: str, seconds: float) -> None:
        if len(self._tally) >= _MOST_KINDS:
            detail = ""
        before = self._tally.get((remote, result, detail))
        sockets = 1 if before is None else before.sockets + 1
        self._tally[remote, result, detail] = Try(
            Way.DIALLED, remote, result, seconds, detail, sockets
        )


def _together(remotes: Sequence[Address]) -> Address | None:
    """
    Where sockets went that are told of as one: C{None} if all have the same remote.
    """
    if len(set(remotes)) < 2:
        return None
    return makeAddress(remotes[0].host, 0)
