"""
An internet in memory, with a virtual clock: hosts behind NATs of every kind, TCP as far as punching
depends on it, and introductions that race strategies with punchd's own machinery.

No root, no sockets, no waiting; with the same seed, the same happens again::

    internet = Internet(seed=1)
    alice = internet.addHost("alice", "port-restricted")
    bob = internet.addHost("bob", "shifted")
    found = internet.introduce(alice, bob, [Simultaneous()])
    assert found.strategy == "simultaneous"
    assert found.roundTrips < 3
"""

from punchd.testing.internet.internet import Host, Internet
from punchd.testing.internet.introducing import Introduced, Introduction, SideResult
from punchd.testing.internet.network import VirtualClock
from punchd.testing.internet.peers import behaviourOf
from punchd.testing.internet.reactor import SimulatedReactor
from punchd.testing.internet.segments import Complaint, Packet, Segment

__all__ = [
    "Complaint",
    "Host",
    "Internet",
    "Introduced",
    "Introduction",
    "Packet",
    "Segment",
    "SideResult",
    "SimulatedReactor",
    "VirtualClock",
    "behaviourOf",
]
