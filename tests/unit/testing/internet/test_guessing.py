"""
Strategies that guess, many times, against NATs that nobody else crosses.
"""

import pytest

from punchd.interfaces import IStrategy
from punchd.strategies.birthday import Birthday
from punchd.strategies.predicted import Predicted
from punchd.testing.internet import Internet, Introduced
from punchd.testing.natlab.kinds import KINDS, RANDOM_WIDE, NatKind

RUNS = 10


def runs(strategy: IStrategy, one: NatKind, other: NatKind) -> list[Introduced]:
    found = []
    for seed in range(RUNS):
        internet = Internet(seed, jitter=0.005, serverAddresses=2)
        alice, bob = internet.addHost("alice", one), internet.addHost("bob", other)
        found.append(internet.introduce(alice, bob, [strategy]))
    return found


@pytest.mark.parametrize("cone", ["port-restricted", "reset"])
def test_birthdayHitsAmongAllPortsInTime(cone: str) -> None:
    # One run in a thousand needs more than three rounds.
    found = runs(Birthday(), RANDOM_WIDE, KINDS[cone])
    assert sum(one.path is not None and one.seconds < 3.0 for one in found) >= RUNS - 1
    assert all(one.caller.dialled <= 2000 and one.callee.dialled <= 2000 for one in found)
    assert all(one.caller.mostHalfOpen <= 512 and one.callee.mostHalfOpen <= 512 for one in found)


@pytest.mark.parametrize("other", ["port-restricted", "counting"])
def test_predictedMeetsNatsThatCount(other: str) -> None:
    found = runs(Predicted(), KINDS["counting"], KINDS[other])
    assert [one.path for one in found] == ["direct"] * RUNS


def test_nobodyGuessesBetweenTwoThatCannotBeGuessed() -> None:
    internet = Internet(serverAddresses=2)
    alice, bob = internet.addHost("alice", "random"), internet.addHost("bob", "random")
    found = internet.introduce(alice, bob, [Birthday(), Predicted()])
    assert found.path is None
    assert found.seconds < 1.0
    assert found.caller.dialled == 0


def test_aHostWithoutARouterHasNoNeighbours() -> None:
    internet = Internet()
    with pytest.raises(ValueError, match="no router"):
        internet.addNeighbour("bob", internet.addPublic("alice"))
