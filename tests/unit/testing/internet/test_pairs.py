"""
The table of pairs: in memory it is that of the kernel lab, but for differences that are told.
"""

import pytest

from punchd.plugin import loadStrategies, packageOf, strategyMakers
from punchd.strategies.planning import preferred
from punchd.testing.internet import Internet
from punchd.testing.internet.differences import DIFFERENCES, PAIRS
from punchd.testing.natlab.kinds import KINDS
from tests.natlab.test_pairs import expected, isDirect

OURS = loadStrategies([maker for maker in strategyMakers() if packageOf(maker) == "punchd"])

#: The strategies that the kernel lab's table is of.
IN_LAB = {name for one in KINDS for other in KINDS for name in expected(one, other)}

#: With one address, a server cannot see that a mapping depends on it, and only what needs no
#: knowledge of it helps.
ADDRESSES = 1 if "sequential" in expected("by-address", "full-cone") else 2

STRATEGIES = [OURS[name] for name in preferred(list(OURS)) if name in IN_LAB | {"lan"}]


@pytest.mark.parametrize("callee", KINDS)
@pytest.mark.parametrize("caller", KINDS)
def test_thePairIsCrossedAsInTheKernelLab(caller: str, callee: str) -> None:
    internet = Internet(seed=1, delay=0.01, serverAddresses=ADDRESSES)
    one, other = internet.addHost("alice", caller), internet.addHost("bob", callee)
    found = internet.introduce(one, other, STRATEGIES)
    if (caller, callee) in PAIRS:
        pytest.skip(PAIRS[caller, callee])
    assert (found.path == "direct") == isDirect(caller, callee), found.line()
    if found.path == "direct":
        assert found.strategy in expected(caller, callee)


def test_whatDiffersIsToldOnce() -> None:
    assert len({one.here for one in DIFFERENCES}) == len(DIFFERENCES)
    assert {name for pair in PAIRS for name in pair} <= set(KINDS)
