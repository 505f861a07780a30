"""
Pairs of hosts between which strategies are tried.
"""

from __future__ import annotations

from typing import Any

from attrs import field, frozen

from punchd.testing.internet import Host, Internet


@frozen
class World:
    """
    Two hosts to be introduced.

    @ivar caller: the kind of NAT of the caller; C{callee}: that of the callee, or empty for a
        neighbour of the caller's.
    @ivar options: for L{Internet<punchd.testing.internet.internet.Internet>}.
    @ivar leases: whether the caller's router lends ports.
    """

    caller: str
    callee: str
    options: dict[str, Any] = field(factory=dict, hash=False)
    leases: bool = False

    def build(self) -> tuple[Internet, Host, Host]:
        """
        Make it, anew each time.
        """
        internet = Internet(seed=1, serverAddresses=2, **self.options)
        caller = internet.addHost("alice", self.caller, leases=self.leases)
        if self.callee:
            return internet, caller, internet.addHost("bob", self.callee)
        return internet, caller, internet.addNeighbour("bob", caller)

    def __str__(self) -> str:
        return f"{self.caller} and {self.callee or 'a neighbour'}"


WORLDS = (
    World("public", "port-restricted"),
    World("port-restricted", "public"),
    World("port-restricted", "shifted"),
    World("reset", "icmp"),
    World("full-cone", "random"),
    World("counting", "port-restricted"),
    World("port-restricted", "random"),
    World("counting", "counting"),
    World("port-restricted", ""),
    World("random", "random", {"ipv6": True}),
    World("random", "random", leases=True),
)
"""
Worlds of which every sort of strategy finds some that it applies to.
"""
