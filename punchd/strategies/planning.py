"""
What to try for two peers, and when: the policy of the product, as a pure function.

Both peers derive the same plan, because they look at the same L{Situation} and the caller's order
of strategies is part of it. As in Happy Eyeballs (RFC 8305) the strategies start one after the
other, each with a lead over the next, and run on until one wins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf

from twisted.logger import Logger

from punchd.interfaces import IStrategy
from punchd.values.parties import Situation
from punchd.values.plans import Consideration, Plan, PlannedAttempt

_log = Logger()

#: The latest deadline of any attempt: a person who waits must have an answer within ten seconds,
#: the introduction itself included.
LAST_DEADLINE = 8.0

#: Seconds that one call of a strategy may take: as long as it runs, everything else waits.
MOST_SECONDS = 0.1

#: Our strategies, best first; other people's come after them, by name.
PREFERENCE = (
    "lan",
    "ipv6",
    "direct",
    "mapped",
    "simultaneous",
    "predicted",
    "birthday",
    "sequential",
)

#: Those that guess ports: without guesses, a peer does not offer them.
GUESSING = ("predicted", "birthday")


def preferred(names: list[str]) -> list[str]:
    """
    C{names} in the order in which a peer offers them if nobody says otherwise.
    """
    ranks = {name: rank for rank, name in enumerate(PREFERENCE)}
    return sorted(names, key=lambda name: (ranks.get(name, len(ranks)), name))


def makePlan(
    situation: Situation,
    strategies: Mapping[str, IStrategy],
    now: Callable[[], float] = lambda: 0.0,
) -> Plan:
    """
    The plan for C{situation}.

    @param strategies: what is installed here, by name.
    @param now: a clock, to tell of strategies that take too long to consider.
    """
    known = dict(situation.callee.offer.strategies)
    attempts = []
    start = 0.0
    # Once each, however often the caller names it.
    for name, version in dict.fromkeys(situation.caller.offer.strategies):
        strategy = strategies.get(name)
        if strategy is None or known.get(name) != version or strategy.version != version:
            continue
        began = now()
        try:
            consideration = _checked(strategy.consider(situation))
        except Exception as error:  # a third party's code: it is left out, the others go on
            _log.error("strategy {name} failed to consider: {error!r}", name=name, error=error)
            continue
        tellIfSlow(name, "consider", now() - began)
        if consideration is None or start >= LAST_DEADLINE:
            continue
        deadline = min(start + consideration.patience, LAST_DEADLINE)
        attempts.append(PlannedAttempt(name, start, deadline))
        start += consideration.lead
    return Plan(tuple(attempts), "" if attempts else whyNothingApplies(situation))


def _checked(said: object) -> Consideration | None:
    """
    @raise ValueError: when it is no answer that a plan could be made with.
    """
    if said is None:
        return None
    if not isinstance(said, Consideration):
        raise ValueError(f"it gave {said!r:.80} for a consideration")
    # In this form, what is not a number fails too.
    if not (0 <= said.lead <= LAST_DEADLINE and 0 < said.patience < inf):
        raise ValueError(f"a plan cannot be made with {said}")
    return said


def tellIfSlow(name: str, call: str, seconds: float) -> None:
    """
    Log a strategy whose call took longer than it may. Nobody can stop it: it is our own thread.
    """
    if seconds > MOST_SECONDS:
        _log.warn(
            "strategy {name} held up the whole peer: its {call} took {seconds:.2f} s",
            name=name,
            call=call,
            seconds=seconds,
        )


def whyNothingApplies(situation: Situation) -> str:
    """
    Why there is nothing to try for these two, for the person who waits.
    """
    if not situation.isOfOneFamily:
        return (
            "one peer is connected to the server by IPv4, the other one by IPv6, and the server "
            "has not seen an IPv6 address of both"
        )
    if not situation.caller.offer.strategies:
        return (
            "the peer that has asked for the introduction offers no strategy: it has none, or only "
            "wants the relay for now"
        )
    nats = (situation.caller.offer.nat, situation.callee.offer.nat)
    if all(nat.isSymmetric for nat in nats):
        return (
            "both NATs are symmetric (every destination sees another port), and of at least one "
            "nobody can tell the next port: that takes a leased port (PCP, NAT-PMP, UPnP) on one "
            "side, or IPv6 on both"
        )
    if not situation.meetsAsObserved:
        return (
            "one NAT is symmetric (every destination sees another port), the other one filters by "
            "port, and no strategy that guesses ports is enabled on both sides"
        )
    return "no strategy that both peers have applies"
