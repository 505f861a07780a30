"""
Introductions in the in-memory internet: what they tell, and what they leave.
"""

import pytest

from punchd.strategies.lan import Lan
from punchd.strategies.sequential import Sequential
from punchd.strategies.simultaneous import Simultaneous
from punchd.testing.internet import Internet, Introduced, behaviourOf
from punchd.testing.natlab.kinds import KINDS
from punchd.values.nat import Allocation, Filtering, Mapping, NatBehaviour, Unsolicited


def between(
    one: str, other: str, *strategies: object, seed: int = 1, **options: float
) -> Introduced:
    internet = Internet(seed, **options)  # type: ignore[arg-type]
    alice, bob = internet.addHost("alice", one), internet.addHost("bob", other)
    return internet.introduce(alice, bob, strategies or [Simultaneous()])  # type: ignore[arg-type]


def test_aConnectionIsTold() -> None:
    found = between("port-restricted", "shifted")
    assert (found.path, found.strategy, found.reason) == ("direct", "simultaneous", None)
    # One round trip to the server, which is as far as the other peer, and one to that.
    assert found.roundTrips == pytest.approx(2.0)
    assert found.caller.dialled == found.callee.dialled == 1
    assert found.line() == "direct by simultaneous after 0.100 s"


def test_noPathIsTold() -> None:
    found = between("port-restricted", "by-address")
    assert (found.path, found.strategy) == (None, None)
    assert "simultaneous: no answer" in str(found.reason)
    assert found.line().startswith("no path after 4.0")


@pytest.mark.parametrize("pair", [("public", "public"), ("random", "public"), ("reset", "icmp")])
def test_nothingIsLeft(pair: tuple[str, str]) -> None:
    found = between(*pair)
    assert found.path == "direct"
    assert found.left == ()


def test_theTimelineIsThatOfBoth() -> None:
    found = between("port-restricted", "shifted", Sequential())
    assert [moment for moment, _, _ in found.timeline] == sorted(
        moment for moment, _, _ in found.timeline
    )
    assert {who for _, who, _ in found.timeline} == {"alice", "bob", "server"}
    assert any("4. B hears that A is at" in step for _, _, step in found.timeline)


def test_theSameSeedGivesTheSame() -> None:
    one, two = (between("reset", "icmp", jitter=0.01, loss=0.1, seed=7) for _ in range(2))
    assert one == two


def test_anotherSeedGivesAnother() -> None:
    one, two = (between("reset", "icmp", jitter=0.01, seed=seed) for seed in (7, 8))
    assert one.seconds != two.seconds


def test_oneInternetCarriesManyIntroductions() -> None:
    internet = Internet()
    alice, bob = internet.addHost("alice", "restricted"), internet.addHost("bob", "random")
    for _ in range(3):
        for caller, callee in ((alice, bob), (bob, alice)):
            found = internet.introduce(caller, callee, [Simultaneous()])
            assert (found.path, found.left) == ("direct", ())


@pytest.mark.parametrize("kind", ["port-restricted", "random", "carrier"])
def test_neighboursMeetByLan(kind: str) -> None:
    internet = Internet()
    alice = internet.addHost("alice", kind)
    bob = internet.addNeighbour("bob", alice)
    found = internet.introduce(alice, bob, [Lan(), Simultaneous()])
    assert (found.strategy, found.left) == ("lan", ())


def test_bothMustHaveAStrategy() -> None:
    internet = Internet()
    alice, bob = internet.addPublic("alice"), internet.addPublic("bob")
    found = internet.introduce(alice, bob, [Simultaneous(), Sequential()], [Sequential()])
    assert found.strategy == "sequential"
    assert [one.strategy for one in found.plan.attempts] == ["sequential"]


def test_whatAPeerSaysOfItsNatCanBeAnything() -> None:
    internet = Internet()
    alice, bob = internet.addHost("alice", "random"), internet.addHost("bob", "full-cone")
    forged = NatBehaviour(Mapping.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT)
    found = internet.introduce(alice, bob, [Simultaneous()], behaviours={"alice": forged})
    # Nobody listens for a SYN from another port, as nobody knows.
    assert found.path is None


def test_whoIsCutOffCannotLogIn() -> None:
    internet = Internet()
    alice, bob = internet.addPublic("alice"), internet.addPublic("bob")
    internet.cutLink(bob)
    with pytest.raises(RuntimeError, match="log in"):
        internet.introduce(alice, bob, [Simultaneous()])


def test_aFullPictureNeedsTwoAddresses() -> None:
    full, byAddress = KINDS["full-cone"], KINDS["by-address"]
    assert behaviourOf(full).filtering is Filtering.ENDPOINT_INDEPENDENT
    assert behaviourOf(full, False).filtering is Filtering.ADDRESS_DEPENDENT
    assert behaviourOf(byAddress).mapping is Mapping.ADDRESS_DEPENDENT
    assert behaviourOf(byAddress, False).mapping is Mapping.ENDPOINT_INDEPENDENT
    assert behaviourOf(byAddress, False).fromOneAddress


@pytest.mark.parametrize(
    ("name", "isSeenInFull", "unsolicited"),
    [
        ("public", False, Unsolicited.RESET),
        ("full-cone", True, None),
        ("restricted", False, None),
        ("restricted", True, Unsolicited.DROP),
        ("icmp", False, Unsolicited.ICMP),
    ],
)
def test_whatIsAnsweredIsSeenWhereSomebodyIsRefused(
    name: str, isSeenInFull: bool, unsolicited: Unsolicited | None
) -> None:
    assert behaviourOf(KINDS[name], isSeenInFull).unsolicited is unsolicited


def test_aCountingNatIsPredictable() -> None:
    counting = behaviourOf(KINDS["counting"])
    assert (counting.allocation, counting.delta) == (Allocation.COUNTING, 1)


def test_lossCostsTimeOnly() -> None:
    found = [between("port-restricted", "full-cone", seed=seed, loss=0.2) for seed in range(10)]
    assert sum(one.path is not None for one in found) >= 9
    assert max(one.seconds for one in found) > 2 * min(one.seconds for one in found)


@pytest.mark.parametrize("kind", ["reset", "icmp"])
def test_unequalDistancesAndJitterAreSurvived(kind: str) -> None:
    connected = 0
    for seed in range(20):
        internet = Internet(seed, jitter=0.01)
        alice = internet.addHost("alice", kind, delay=0.005)
        bob = internet.addHost("bob", kind, delay=0.120)
        connected += internet.introduce(alice, bob, [Simultaneous()]).path is not None
    assert connected >= 19
