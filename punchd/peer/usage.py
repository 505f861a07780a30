"""
Toward whom the port that a peer is called at is used, or was until lately: one four-tuple carries
one connection, and is not free at once when that is over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from attrs import define, field
from twisted.internet.interfaces import IReactorTime

from punchd.link.path import Path
from punchd.values.peers import PeerID

#: Seconds for which a four-tuple may be of no use after its last packet: as long as a NAT keeps a
#: connection that is half open or closing (RFC 5382, REQ-5: 4 minutes at least; Linux's connection
#: tracking keeps it for 10 s to 2 minutes). The kernel's own TIME_WAIT, and a socket that closes
#: after a punch that got half through, are shorter.
LINGERING = 240.0


@define(eq=False)
class Use:
    """
    One punch, and what has become of it.

    @ivar hasDialled: whether there was anything to be dialled.
    @ivar path: the direct path, if there is one.
    """

    hasDialled: bool = False
    path: Path | None = None


@define(eq=False)
class Usage:
    """
    Made for each L{MasterClient<punchd.peer.master.MasterClient>}, for its port; lives as long.
    """

    _clock: IReactorTime
    _uses: Counter[PeerID] = field(factory=Counter, init=False)
    _lingering: dict[PeerID, float] = field(factory=dict, init=False)

    def isOngoing(self, peerID: PeerID) -> bool:
        """
        Whether there is a punch or a path toward that peer.
        """
        return self._uses[peerID] > 0

    def isFree(self, peerID: PeerID) -> bool:
        """
        Whether there is none, and has been none for long enough.
        """
        lingers = self._lingering.get(peerID, 0.0) > self._clock.seconds()
        return not lingers and not self.isOngoing(peerID)

    @contextmanager
    def toward(self, peerID: PeerID) -> Iterator[Use]:
        """
        The port is used for a punch: until this is over, or the path that came of it.
        """
        use = Use()
        self._uses[peerID] += 1
        try:
            yield use
        finally:
            if use.path is None:
                self._over(peerID, use)
            else:
                use.path.whenLost().addCallback(lambda _: self._over(peerID, use))

    def _over(self, peerID: PeerID, use: Use) -> None:
        self._uses[peerID] -= 1
        if self._uses[peerID] <= 0:
            del self._uses[peerID]
        if use.hasDialled:
            now = self._clock.seconds()
            self._lingering = {one: until for one, until in self._lingering.items() if until > now}
            self._lingering[peerID] = now + LINGERING
