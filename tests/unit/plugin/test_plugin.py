"""
Tests for L{punchd.plugin}.
"""

from typing import Any

import pytest
from twisted.plugin import IPlugin as ITwistedPlugin
from zope.interface.verify import verifyObject

from punchd.interfaces import IRegistry, IRegistryMaker, IStrategy, IStrategyMaker
from punchd.plugin import (
    RegistryMaker,
    StrategyMaker,
    loadStrategies,
    packageOf,
    registryMakers,
    strategyMakers,
)

LAN = StrategyMaker("lan", "punchd.strategies.lan.Lan")
GONE = StrategyMaker("gone", "punchd.strategies.gone.Gone")


@pytest.mark.parametrize(
    ("maker", "interface"),
    [(LAN, IStrategyMaker), (RegistryMaker("memory", "x.y"), IRegistryMaker)],
)
def test_aMakerIsAPluginOfBothKinds(maker: Any, interface: Any) -> None:
    verifyObject(ITwistedPlugin, maker)
    verifyObject(interface, maker)


def test_ourStrategiesAreInstalledInTheOrderOfTheirNames() -> None:
    names = [maker.name for maker in strategyMakers()]
    assert names == sorted(names)
    assert {"lan", "sequential", "simultaneous"} <= set(names)


def test_ourRegistriesAreInstalled() -> None:
    assert {"memory", "sqlite"} <= {maker.name for maker in registryMakers()}


def test_everyInstalledStrategyLoadsUnderItsName() -> None:
    loaded = loadStrategies(strategyMakers())
    for name, strategy in loaded.items():
        verifyObject(IStrategy, strategy)
        assert strategy.name == name


def test_aRegistryIsMadeFromItsURI() -> None:
    made = RegistryMaker("memory", "punchd.server.registry.memory.fromURI").make("memory:", None)
    verifyObject(IRegistry, made)


def test_aStrategyThatCannotBeLoadedIsReportedByName() -> None:
    reported: list[str] = []
    loaded = loadStrategies([GONE, LAN], lambda name, error: reported.append(name))
    assert (reported, list(loaded)) == (["gone"], ["lan"])


def test_aStrategyThatCannotBeLoadedIsLeftOut() -> None:
    assert list(loadStrategies([GONE, LAN])) == ["lan"]


def test_aMakerOfOursComesFromPunchd() -> None:
    assert packageOf(LAN) == "punchd"


def test_anotherMakerComesFromItsClasssPackage() -> None:
    class Other:
        name = "other"

    assert packageOf(Other()) == __name__.partition(".")[0]
