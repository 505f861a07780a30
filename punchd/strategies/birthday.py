"""
Strategy C{birthday}: a symmetric NAT whose ports nobody can tell, and one that keeps its port.

The side that keeps its port dials many ports of the other's address, chosen at random; the
symmetric side dials that one port from many sockets, each of which gets an outside port of its own.
One guess that meets one of these mappings is enough. As in the birthday paradox, it is the product
that counts: 256 guesses and 256 mappings are 65,536 chances of 1 in 64,512.

A round that failed stays open while the next one runs, so that new guesses meet old mappings, too,
and old guesses new mappings: from the second round on, each counts three times.
"""

from __future__ import annotations

from random import Random

from twisted.internet.defer import Deferred
from zope.interface import implementer

from punchd.interfaces import IAttempt, IStrategy
from punchd.nat.prediction import FIRST_PORT, LAST_PORT
from punchd.strategies.bursts import Bursts, letsIn
from punchd.values.addresses import Address, makeAddress
from punchd.values.nat import Allocation, Unsolicited
from punchd.values.outcomes import Outcome
from punchd.values.parties import Party, Situation
from punchd.values.plans import Consideration

#: Sockets of a round, rounds, and seconds from one to the next. Home routers limit sessions to a
#: thousand or two.
ROUND = 256
ROUNDS = 7
PAUSE = 0.4

#: Seconds that a socket waits: less than two rounds, so that there are never more than two, even
#: if one began a little late; and less than the second after which the kernel repeats a SYN.
WAIT = 0.7

#: Three rounds leave one pair in a thousand.
LEAD = 1.4
PATIENCE = ROUNDS * PAUSE + 2.0

#: Seconds by which the side whose NAT refuses what comes too early is ahead.
HEAD_START = 0.03


@implementer(IStrategy)
class Birthday:
    """
    See the module. Stateless.
    """

    name = "birthday"
    version = 1

    def consider(self, situation: Situation) -> Consideration | None:
        if not situation.isOfOneFamily or not any(_symmetric(situation)):
            return None
        return Consideration(LEAD, PATIENCE)

    def attempt(self, attempt: IAttempt) -> Deferred[Outcome]:
        return Deferred.fromCoroutine(self._run(attempt))

    async def _run(self, attempt: IAttempt) -> Outcome:
        situation: Situation = attempt.situation
        own, other = situation.caller, situation.callee
        isSymmetric, otherIsSymmetric = _symmetric(situation)
        if not attempt.isCaller:
            own, other = other, own
            isSymmetric, otherIsSymmetric = otherIsSymmetric, isSymmetric
        # Where nobody knows which of the two it is, each side takes both parts.
        width = ROUND // (isSymmetric + otherIsSymmetric)
        guessed: set[int] = set()
        bursts = Bursts(attempt.clock)
        began = attempt.clock.seconds()
        try:
            start = began + (HEAD_START if _refuses(other) and not _refuses(own) else 0.0)
            for number in range(ROUNDS):
                if await bursts.wait(start + number * PAUSE - attempt.clock.seconds()):
                    break
                if isSymmetric:
                    bursts.add(attempt.spray([other.reflexive] * width, patience=WAIT))
                if otherIsSymmetric:
                    guesses = _guesses(attempt.random, guessed, other.reflexive.host, width)
                    bursts.add(attempt.spray(guesses, attempt.heldPort(), WAIT))
            await bursts.waitForEnd()
        finally:
            bursts.cancel()
        return bursts.outcome(self.name, attempt.clock.seconds() - began)


def _symmetric(situation: Situation) -> tuple[bool, bool]:
    """
    Whether the caller's ports are guessed, and whether the callee's are.
    """
    caller, callee = situation.caller, situation.callee
    isSymmetric = (caller.offer.nat.isSymmetric, callee.offer.nat.isSymmetric)
    if all(isSymmetric):
        return False, False
    if any(isSymmetric):
        return isSymmetric[0] and not letsIn(callee), isSymmetric[1] and not letsIn(caller)
    return _maybeSymmetric(caller, callee), _maybeSymmetric(callee, caller)


def _maybeSymmetric(party: Party, other: Party) -> bool:
    """
    Whether C{party} may be behind a NAT that maps by address, which a server with a single address
    takes for one that keeps its port. One that gives the inside port itself does so everywhere.
    """
    nat = party.offer.nat
    return (
        nat.fromOneAddress
        and nat.mapping is not None
        and nat.allocation is not Allocation.PRESERVING
        and not party.hasNoNat
        and other.offer.nat.filtersPorts
    )


def _refuses(party: Party) -> bool:
    return party.offer.nat.unsolicited in (Unsolicited.RESET, Unsolicited.ICMP)


def _guesses(random: Random, guessed: set[int], host: str, count: int) -> list[Address]:
    """
    Ports that were not guessed before.
    """
    guesses: list[Address] = []
    while len(guesses) < count:
        port = random.randint(FIRST_PORT, LAST_PORT)
        if port not in guessed:
            guessed.add(port)
            guesses.append(makeAddress(host, port))
    return guesses
