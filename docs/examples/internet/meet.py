"""
Two peers behind NATs of an internet in memory: by which strategy do they meet, and how fast?
"""

from punchd.strategies.simultaneous import Simultaneous
from punchd.testing.internet import Internet

internet = Internet(seed=1, delay=0.025)
alice = internet.addHost("alice", "port-restricted")
bob = internet.addHost("bob", "shifted")

found = internet.introduce(alice, bob, [Simultaneous()])

print(found.line())
print(f"{found.roundTrips:.1f} round trips, {found.caller.dialled} socket")
