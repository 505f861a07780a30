"""
The peers that one trusts, each under a name of one's own choice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from difflib import get_close_matches

from attrs import define, field

from punchd.errors import ConfigurationError, UnknownPeer
from punchd.identity.folder import StateFolder
from punchd.values.peers import PeerID, Pin, checkedName

_PINS_FILE = "pins.json"


@define
class Pins:
    """
    The pins of a state folder. Every change is on disk before it counts.
    """

    _folder: StateFolder
    _byName: dict[str, PeerID] = field(factory=dict)

    @classmethod
    def inFolder(cls, folder: StateFolder) -> Pins:
        """
        @raise ConfigurationError: when the file is there but is none of ours.
        """
        content = folder.read(_PINS_FILE)
        if content is None:
            return cls(folder)
        try:
            table = json.loads(content)
            pins = {checkedName(name): PeerID.parse(text) for name, text in table.items()}
        except (ValueError, AttributeError, TypeError, RecursionError, ConfigurationError):
            raise ConfigurationError(
                f"{folder.file(_PINS_FILE)} holds no pins (a JSON object of names and peer IDs): "
                "repair it, or move it away and trust your peers again"
            ) from None
        return cls(folder, pins)

    def trust(self, name: str, peerID: PeerID) -> str | None:
        """
        Pin C{peerID} under C{name}, in place of what had that name or that ID before.

        @return: what was replaced, for the person; C{None} if nothing was.

        @raise ConfigurationError: when the name is not usable or the file cannot be written.
        """
        checkedName(name)
        before, called = self._byName.get(name), self.nameOf(peerID)
        changed = {old: known for old, known in self._byName.items() if known != peerID}
        changed[name] = peerID
        table = {old: str(known) for old, known in sorted(changed.items())}
        self._folder.write(_PINS_FILE, json.dumps(table, indent=2).encode("ascii") + b"\n")
        self._byName = changed
        if before is not None and before != peerID:
            return f"{name} was {before.short}… until now, and is {peerID.short}… from now on"
        if called is not None and called != name:
            return f"the peer that was pinned as {called} is pinned as {name} from now on"
        return None

    def idOf(self, name: str) -> PeerID:
        """
        @raise UnknownPeer: when nobody is pinned under C{name}.
        """
        try:
            return self._byName[name]
        except KeyError:
            raise UnknownPeer(
                f"no peer is pinned as {name!r}{self._alike(name)}: run 'punchd trust {name} ID' "
                "with the ID that 'punchd id' prints there"
            ) from None

    def _alike(self, name: str) -> str:
        known = {one.lower(): one for one in self._byName}
        meant = get_close_matches(name.lower(), known, 1)
        return f" (there is {known[meant[0]]!r})" if meant else ""

    def nameOf(self, peerID: PeerID) -> str | None:
        """
        The name under which C{peerID} is pinned, if it is.
        """
        return next((name for name, known in self._byName.items() if known == peerID), None)

    def __iter__(self) -> Iterator[Pin]:
        return iter([Pin(name, known) for name, known in sorted(self._byName.items())])
