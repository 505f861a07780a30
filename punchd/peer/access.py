"""
Who may reach what.
"""

from __future__ import annotations

from attrs import frozen
from zope.interface import implementer

from punchd.errors import ConfigurationError
from punchd.identity.pins import Pins
from punchd.interfaces import IAccessPolicy
from punchd.values.peers import PeerID, checkedName


@implementer(IAccessPolicy)
@frozen
class AllowList:
    """
    Pinned peers, and nobody else ever. With rules, only those that a rule names.

    @ivar _rules: for a pin's name, the services it may reach; C{None} for all.
    """

    _pins: Pins
    _rules: dict[str, frozenset[str] | None]

    @classmethod
    def parse(cls, pins: Pins, rules: list[str]) -> AllowList:
        """
        @param rules: as C{PEER} or C{PEER=SERVICE,...}; several for one peer add up.
        @raise ConfigurationError: when one is neither.
        """
        parsed: dict[str, frozenset[str] | None] = {}
        for rule in rules:
            peer, services = parseRule(rule)
            known = parsed.get(peer, frozenset())
            parsed[peer] = None if known is None or services is None else known | services
        return cls(pins, parsed)

    def admits(self, peerID: PeerID) -> bool:
        name = self._pins.nameOf(peerID)
        return name is not None and (not self._rules or name in self._rules)

    def permits(self, peerID: PeerID, service: str) -> bool:
        name = self._pins.nameOf(peerID)
        if name is None:
            return False
        if not self._rules:
            return True
        services = self._rules.get(name, frozenset())
        return services is None or service in services

    def strangers(self) -> list[str]:
        """
        Names in rules under which nobody is pinned: perhaps misspelt, perhaps yet to come.
        """
        known = {pin.name for pin in self._pins}
        return sorted(name for name in self._rules if name not in known)

    def admitted(self) -> frozenset[PeerID]:
        """
        Everybody whom L{admits} admits.
        """
        return frozenset(pin.peerID for pin in self._pins if self.admits(pin.peerID))


def parseRule(rule: str) -> tuple[str, frozenset[str] | None]:
    """
    Take C{PEER[=SERVICE,...]} apart; C{None} stands for all services.

    @raise ConfigurationError: when C{rule} is not of that form.
    """
    peer, equals, services = rule.partition("=")
    checkedName(peer, "peer in --allow")
    if not equals:
        return peer, None
    return peer, frozenset(checkedName(one, "service in --allow") for one in services.split(","))


def parseNamed(text: str, option: str) -> tuple[str, str]:
    """
    Take C{NAME=REST} apart.

    @raise ConfigurationError: when there is no C{=}, or no usable name.
    """
    name, equals, rest = text.partition("=")
    if not equals or not rest:
        raise ConfigurationError(f"expected {option} NAME=..., not {text!r}")
    return checkedName(name, f"name in {option}"), rest
