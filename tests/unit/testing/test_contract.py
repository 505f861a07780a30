"""
The contract of strategies: every one of punchd's keeps it, and each of its tests can fail.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import Phase, settings
from zope.interface import Invalid

from punchd.interfaces import IStrategy
from punchd.plugin import loadStrategies, packageOf, strategyMakers
from punchd.testing import contract
from punchd.testing.contract import StrategyContract
from tests.unit.testing import bad

OURS = [maker for maker in strategyMakers() if packageOf(maker) == "punchd"]


@pytest.mark.parametrize("maker", OURS, ids=lambda maker: maker.name)
class TestOurs(StrategyContract):
    @pytest.fixture(autouse=True)
    def _choose(self, maker: object) -> None:
        self._maker = maker

    def makeStrategy(self) -> IStrategy:
        [strategy] = loadStrategies([self._maker]).values()  # type: ignore[list-item]
        return strategy


class _Of(StrategyContract):
    """
    The contract, for one class.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self.makeStrategy = make  # type: ignore[method-assign]


TESTS = [name for name in dir(StrategyContract) if name.startswith("test_")]


@pytest.mark.parametrize("name", TESTS)
def test_aGoodStrategyKeepsIt(name: str) -> None:
    getattr(_Of(bad.Good), name)()


@pytest.fixture
def unshrunk() -> Iterator[None]:
    """
    That something was found is enough: nobody reads the smallest example, which takes the longest.
    """
    before = settings.get_current_profile_name()
    phases = [Phase.explicit, Phase.generate]
    settings.register_profile("unshrunk", settings.get_profile(before), phases=phases)
    settings.load_profile("unshrunk")
    yield
    settings.load_profile(before)


@pytest.mark.usefixtures("unshrunk")
@pytest.mark.parametrize(
    ("make", "name"), bad.FOUND_BY, ids=[f"{one.__name__}-{name}" for one, name in bad.FOUND_BY]
)
def test_aBadOneIsFound(
    make: Callable[[], Any], name: str, monkeypatch: pytest.MonkeyPatch, flushLoggedErrors: Any
) -> None:
    monkeypatch.setattr(contract, "MOST_SECONDS", bad.Blocks.seconds / 2)
    with pytest.raises(Exception) as found:  # noqa: PT011 whatever pytest calls a failure
        getattr(_Of(make), name)()
    assert not isinstance(found.value, AttributeError | TypeError), found.value
    flushLoggedErrors()


def test_whatIsNoStrategyIsFound() -> None:
    with pytest.raises(Invalid):
        _Of(object).test_itIsAStrategy()


def test_everyTestCanFail() -> None:
    assert {name for _, name in bad.FOUND_BY} == set(TESTS) - {"test_itIsAStrategy"}
