"""
A peer that is carried about.
"""

from __future__ import annotations

from typing import Any

import attrs

from punchd.testing.deployment import PeerProcess
from punchd.testing.natlab import Host


@attrs.define
class Laptop:
    """
    A peer whose address changes, and one that stays where it is.
    """

    peer: PeerProcess
    friend: PeerProcess
    moves: int = 0

    def move(self) -> None:
        """
        Get another address, as in another network.
        """
        host: Host = self.peer.host
        assert host.router is not None
        net = host.address.rpartition(".")[0]
        old = host.address if self.moves == 0 else f"{net}.{100 + self.moves}"
        self.moves += 1
        for command in (
            ["ip", "addr", "del", f"{old}/24", "dev", "eth0"],
            ["ip", "addr", "add", f"{net}.{100 + self.moves}/24", "dev", "eth0"],
            ["ip", "route", "replace", "default", "via", host.router.gateway],
        ):
            host.run(command, check=True)

    @property
    def link(self) -> dict[str, Any]:
        """
        Facts of its link to the other one.
        """
        return self.peer.linked(self.friend)

    def awaitMoved(self, moves: int, seconds: float) -> None:
        """
        Wait until that link runs directly again.

        @param moves: how often it had moved before.
        """
        self.peer.waitFor(lambda: self.link["moves"] > moves, "on another path", seconds)
        self.peer.waitFor(lambda: self.link["path"] == "direct", "on a direct path", seconds)
