"""
Plugins: light makers that lie in C{twisted/plugins/}, ours and other people's alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen
from twisted.internet.interfaces import (
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
)
from twisted.logger import Logger
from twisted.plugin import IPlugin as ITwistedPlugin
from twisted.plugin import getPlugins
from twisted.python.reflect import namedAny
from zope.interface import implementer
from zope.interface.verify import verifyObject

from punchd.interfaces import IRegistry, IRegistryMaker, IStrategy, IStrategyMaker

_log = Logger()


@implementer(ITwistedPlugin, IStrategyMaker)
@frozen
class StrategyMaker:
    """
    One line in a dropin: a strategy's name, and the dotted name of its class, which is called
    without arguments.
    """

    name: str
    dottedName: str

    def make(self) -> IStrategy:
        strategy: IStrategy = namedAny(self.dottedName)()
        return strategy


@implementer(ITwistedPlugin, IRegistryMaker)
@frozen
class RegistryMaker:
    """
    One line in a dropin: a URI's scheme, and the dotted name of a callable that takes the URI and
    the reactor.
    """

    name: str
    dottedName: str

    def make(self, uri: str, reactor: object) -> IRegistry:
        registry: IRegistry = namedAny(self.dottedName)(uri, reactor)
        return registry


@implementer(
    ITwistedPlugin, IStreamClientEndpointStringParserWithReactor, IStreamServerEndpointStringParser
)
@frozen
class EndpointParser:
    """
    One line in a dropin: the word before the first colon of endpoint strings, and the dotted names
    of what reads client's and server's strings. Each takes the reactor, the arguments without a
    name, and those with one.
    """

    prefix: str
    clientName: str
    serverName: str

    def parseStreamClient(
        self, reactor: Any, *arguments: Any, **named: Any
    ) -> IStreamClientEndpoint:
        endpoint: IStreamClientEndpoint = namedAny(self.clientName)(reactor, arguments, named)
        return endpoint

    def parseStreamServer(
        self, reactor: Any, *arguments: Any, **named: Any
    ) -> IStreamServerEndpoint:
        endpoint: IStreamServerEndpoint = namedAny(self.serverName)(reactor, arguments, named)
        return endpoint


def strategyMakers() -> list[IStrategyMaker]:
    """
    Every installed strategy's maker, in the order of their names; the first of a name counts.
    """
    return _inOrder(IStrategyMaker)


def registryMakers() -> list[IRegistryMaker]:
    """
    Every installed registry's maker, in the order of their names; the first of a name counts.
    """
    return _inOrder(IRegistryMaker)


def loadStrategies(
    makers: list[IStrategyMaker], report: Callable[[str, Exception], None] | None = None
) -> dict[str, IStrategy]:
    """
    Load the code of all C{makers}. One that fails is reported by name and left out.

    @param report: gets the name and what was raised; by default it is logged.
    """
    loaded: dict[str, IStrategy] = {}
    for maker in makers:
        try:
            loaded[maker.name] = _verified(maker.make())
        except Exception as error:  # a third party's code: whatever it raises is its own fault
            (report or _logBroken)(maker.name, error)
    return loaded


def _verified(strategy: IStrategy) -> IStrategy:
    """
    @raise Exception: when a peer could not offer it to others.
    """
    verifyObject(IStrategy, strategy)
    if not isinstance(strategy.version, int):
        raise TypeError(f"its version is {strategy.version!r:.40}, not a number")
    return strategy


def packageOf(plugin: Any) -> str:
    """
    The package that a plugin's code comes from, for people.
    """
    dotted: str = getattr(plugin, "dottedName", type(plugin).__module__)
    return dotted.partition(".")[0]


def _logBroken(name: str, error: Exception) -> None:
    _log.error("strategy {name} cannot be loaded: {error!r}", name=name, error=error)


def _inOrder(interface: Any) -> list[Any]:
    found: dict[str, Any] = {}
    for plugin in getPlugins(interface):
        found.setdefault(plugin.name, plugin)
    return [found[name] for name in sorted(found)]
