"""
The registry that forgets: for trying things out, and for tests.
"""

from __future__ import annotations

from attrs import define, field
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from punchd.errors import ConfigurationError
from punchd.interfaces import IRegistry
from punchd.server.registry import taken
from punchd.values.peers import PeerID


@implementer(IRegistry)
@define(eq=False)
class MemoryRegistry:
    """
    Owners of names, as long as the process lives.
    """

    _owners: dict[str, PeerID] = field(factory=dict)

    def claim(self, name: str, peerID: PeerID) -> Deferred[None]:
        if self._owners.setdefault(name.lower(), peerID) != peerID:
            return fail(taken(name))
        return succeed(None)

    def owner(self, name: str) -> Deferred[PeerID | None]:
        return succeed(self._owners.get(name.lower()))

    def close(self) -> Deferred[None]:
        return succeed(None)


def fromURI(uri: str, reactor: object) -> MemoryRegistry:
    """
    The registry of C{memory:}.

    @raise ConfigurationError: when something follows the colon.
    """
    if uri != "memory:":
        raise ConfigurationError(f"the registry {uri!r} cannot be: nothing follows 'memory:'")
    return MemoryRegistry()
