"""
In what the in-memory internet differs from real kernels and NATs, as far as is known: the one list
of it. The manual shows it, and the tests compare the table of pairs with the kernel lab's.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from attrs import frozen


@frozen
class Difference:
    """
    @ivar here: what the in-memory internet does.
    @ivar really: what kernels, NATs or networks do.
    """

    here: str
    really: str


DIFFERENCES: Final = (
    Difference(
        "Nothing takes time but the way: a connection that needs two round trips has exactly two.",
        "Programs and kernels take a few milliseconds more, and a busy machine many.",
    ),
    Difference(
        "There is no window, no congestion and no bandwidth: whoever writes is never held up, and "
        "what is lost is sent again after twice the round trip.",
        "TCP slows down. Measure throughput elsewhere.",
    ),
    Difference(
        "A four-tuple is free as soon as its connection is over.",
        "It may stay in TIME_WAIT for a minute, if it was not aborted.",
    ),
    Difference(
        "Mappings last for ever, and any number of them fits into a router.",
        "NATs forget mappings after minutes, some when the connection that made them is closed, "
        "and have room for a thousand or two of one host.",
    ),
    Difference(
        "A router gives no port to two inside ports at a time.",
        "Linux does, for different remote addresses.",
    ),
    Difference(
        "A connection that was reset is remembered for ten seconds, in which only the inside can "
        "open it again.",
        "So it is with Linux; other NATs forget it at once.",
    ),
    Difference(
        "A peer knows its NAT from the beginning, as far as the number of the server's addresses "
        "allows; and a router that lends ports just does.",
        "Discovery takes seconds, and may be wrong; leases need PCP, NAT-PMP or UPnP, and can be "
        "refused.",
    ),
    Difference(
        "Master connections carry a name and nothing else; commands go beside them, after the same "
        "time, through AMP's own packing.",
        "They are AMP over TLS, and share the line with everything else.",
    ),
    Difference(
        "Guesses are ordinary connections of Twisted's.",
        "They are plain sockets, as those cost less.",
    ),
)

#: Pairs of kinds, caller's and callee's, in which another strategy wins than in the kernel lab, and
#: why.
PAIRS: Final[Mapping[tuple[str, str], str]] = MappingProxyType({})
