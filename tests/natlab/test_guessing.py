"""
The strategies that guess ports, with real processes behind real NATs: C{predicted} where NATs
count, while others use them too; C{birthday} where nobody can tell the next port.

Each pair is tried a few times, and may fail so often as happens in all but one of a thousand such
tests if 99 of 100 tries succeed; when more fail, more are made, and all are judged: a machine that
does other things, too, may have spoilt some. With C{PUNCHD_GUESSING_RUNS=40} or C{100}, that many
must reach their goal.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from math import comb
from typing import Any, Final

import pytest
from attrs import define, field

from punchd.peer.guesses import AT_ONCE, SECONDS_FOR_ONE
from punchd.testing.daemons import ask
from punchd.testing.deployment import Deployment, PeerProcess
from punchd.testing.natlab import KINDS, NatKind, NatLab
from punchd.testing.natlab.kinds import RANDOM_WIDE
from tests.natlab import traffic

pytestmark = pytest.mark.natlab

RUNS: Final = int(os.environ.get("PUNCHD_GUESSING_RUNS", "5"))

MANY: Final = 40
"""Runs whose share is judged, not their likelihood."""

MORE: Final = 20
"""Runs that are judged when too many of fewer have failed."""

SEEN: Final = 0.99
"""The chance of a try."""

DELAY: Final = 0.025
"""Seconds one way."""

PATIENCE: Final = 3.0
"""Seconds within which a try has to connect."""

RATE: Final = 20.0
"""Connections a second that others make."""

SYNS: Final = 2000
"""The most that a side may send."""


def allowed(goal: float, runs: int) -> int:
    """
    How many of C{runs} may fail. Of few, the least number that is exceeded in less than one of a
    thousand such tests; of many, the share that C{goal} leaves.
    """
    if runs >= MANY:
        return round(runs * (1 - goal))
    failing, total = 0, 0.0
    for failing in range(runs + 1):
        total += comb(runs, failing) * (1 - SEEN) ** failing * SEEN ** (runs - failing)
        if total >= 0.999:
            break
    return failing


@contextmanager
def pair(one: NatKind | str, other: NatKind | str, crowded: bool) -> Iterator[list[PeerProcess]]:
    """
    Two peers that know all about their NATs, and C{crowded} ones with neighbours.
    """
    with ExitStack() as stack:
        lab = stack.enter_context(NatLab(DELAY))
        server, public = lab.addPublic("server", addresses=2), lab.addPublic("public")
        second = f"tcp:7763:interface={server.addresses[1]}"
        options = ("--assist", "tcp:7762", "--assist", second)
        deployment = stack.enter_context(Deployment(server, options))
        peers = [
            deployment.addPeer(lab.addHost(name, kind))
            for name, kind in (("alice", one), ("bob", other))
        ]
        deployment.acquaint()
        deployment.start()
        for peer in peers:
            # Waits until it is known.
            ask(peer.state, "nat")
        if crowded:
            for peer in peers:
                neighbour = lab.addNeighbour(f"{peer.name}.neighbour", peer.host)
                argv = [sys.executable, traffic.__file__, public.address, "80", str(RATE)]
                process = neighbour.popen(argv, stdout=subprocess.PIPE)
                assert process.stdout is not None
                assert process.stdout.readline() == b"1\n"
        yield peers


@define
class Trying:
    """
    Tries of two peers, whose caller is now this one and now the other.

    @ivar tries: what came of each.
    """

    peers: list[PeerProcess]
    tries: list[dict[str, Any]] = field(factory=list, init=False)
    _began: float = field(factory=time.monotonic, init=False)
    _spent: int = field(default=0, init=False)

    def upTo(self, runs: int) -> None:
        """
        Go on until there are so many. There is a pause before a peer would spend more on guesses
        than it may in the long run.
        """
        for run in range(len(self.tries), runs):
            late = (self._spent - SYNS * AT_ONCE / 2) * SECONDS_FOR_ONE / SYNS
            time.sleep(max(0.0, self._began + late - time.monotonic()))
            facts = self.peers[run % 2].ping(self.peers[1 - run % 2])
            self._spent += dialled(facts)
            self.tries.append(facts)

    def good(self, strategy: str) -> list[dict[str, Any]]:
        """
        Those that have connected in time, by that strategy.
        """
        return [one for one in self.tries if one["strategy"] == strategy and took(one) <= PATIENCE]

    def isEnough(self, strategy: str, goal: float) -> bool:
        """
        Whether few enough have failed.
        """
        failed = len(self.tries) - len(self.good(strategy))
        return failed <= allowed(goal, len(self.tries))


def dialled(facts: dict[str, Any]) -> int:
    """
    The sockets of all attempts of a try.
    """
    return sum(one["sockets"] for each in facts["attempts"] for one in each["tries"])


def took(facts: dict[str, Any]) -> float:
    """
    The seconds until a path was connected; or elected, if the other side had asked for it, too, as
    it does when it finds the link without a path for long, and was the first.
    """
    seconds: dict[str, float] = facts["seconds"]
    return seconds.get("connected", seconds["elected"])


def check(peers: list[PeerProcess], strategy: str, goal: float) -> None:
    """
    Enough tries connect in time, by that strategy, and none is too dear.
    """
    trying = Trying(peers)
    trying.upTo(RUNS)
    if not trying.isEnough(strategy, goal):
        trying.upTo(MORE)
    tries, good = trying.tries, trying.good(strategy)
    times = sorted(round(took(facts), 3) for facts in good)
    sys.stdout.write(f"{strategy}: {len(good)} of {len(tries)}, after {times} s\n")
    assert trying.isEnough(strategy, goal), [facts["reason"] for facts in tries]
    assert all(dialled(facts) <= SYNS for facts in tries)


@pytest.mark.parametrize("other", ["port-restricted", "reset"])
def test_whoCountsMeetsAConeWhileOthersUseItsNat(other: str) -> None:
    with pair("counting", other, crowded=True) as peers:
        check(peers, "predicted", 0.95)


def test_twoWhoCountMeetWhileOthersUseTheirNats() -> None:
    with pair("counting", "counting", crowded=True) as peers:
        check(peers, "predicted", 0.90)


@pytest.mark.parametrize("cone", ["port-restricted", "shifted", "reset", "icmp"])
@pytest.mark.parametrize("symmetric", [RANDOM_WIDE, KINDS["by-address"]], ids=lambda one: one.name)
def test_whoseNatCannotBePredictedMeetsACone(symmetric: NatKind, cone: str) -> None:
    with pair(symmetric, cone, crowded=False) as peers:
        check(peers, "birthday", 0.99)


def test_aRouterThatLimitsSessionsLosesNothingElse() -> None:
    """
    What has no room in a router's table fails; the connection to the server does not suffer.
    """
    with pair(RANDOM_WIDE, "port-restricted", crowded=False) as peers:
        alice, bob = peers
        router = alice.host.router
        assert router is not None
        limit = "insert rule ip nat_kind forward ct state new ct count over 100 drop"
        router.run(["nft", *limit.split()])
        pid, tries = alice.pid, [alice.ping(bob) for _ in range(2)]
        for facts in tries:
            assert facts["path"] == "direct" or "birthday: no answer" in facts["reason"]
        for peer in peers:
            status = peer.status()
            assert status is not None
            assert status["master"] == "connected"
        assert alice.pid == pid
        assert "lost the server" not in alice.said(0) + bob.said(0)


def test_theBoundIsSound() -> None:
    assert [allowed(0.99, 5), allowed(0.95, 5), allowed(0.99, 20)] == [1, 1, 3]
    assert [allowed(0.99, 100), allowed(0.95, 40), allowed(0.9, 40)] == [1, 2, 4]
