"""
Which outside ports a NAT that counts will give next.

Such a NAT gives each new mapping the port C{delta} after the last one, whoever makes it. Between a
mapping that the server has seen and the burst that shall be met, others behind the same NAT make
mappings, too: how many can be estimated, not known. So the other side dials a whole window of
ports, or both sides meet at a place that a whole burst goes over.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil

from attrs import frozen

# The ports that NATs give out: RFC 6335 keeps the lower ones for well-known services.
FIRST_PORT = 1024
LAST_PORT = 65535


@frozen
class Sighting:
    """
    A mapping of ours, as the server has seen it.

    @ivar port: its outside port.
    @ivar at: when it was made, in seconds, on any clock.
    @ivar own: how many mappings we have made since the sighting before, this one included.
    """

    port: int
    at: float
    own: int = 1


def following(port: int, delta: int, first: int, count: int) -> tuple[int, ...]:
    """
    The ports of the mappings after that with C{port}: C{count} of them, from the C{first} one on,
    where 1 is the next. Behind the last port, a NAT begins again with the first.
    """
    ports = LAST_PORT + 1 - FIRST_PORT
    return tuple(
        FIRST_PORT + (port + delta * step - FIRST_PORT) % ports
        for step in range(first, first + count)
    )


def traffic(sightings: Sequence[Sighting], delta: int) -> float:
    """
    How many mappings others make in a second, as far as sightings tell: 0 where they do not.
    """
    others, seconds = 0, 0.0
    for before, after in pairwise(sightings):
        steps, rest = divmod(after.port - before.port, delta)
        # A NAT that has begun again, or has jumped, says nothing of others.
        if rest == 0 and steps >= after.own and after.at > before.at:
            others += steps - after.own
            seconds += after.at - before.at
    return others / seconds if seconds else 0.0


def reach(sightings: Sequence[Sighting], delta: int, seconds: float, width: int) -> int:
    """
    Where to expect our next burst, as the last mapping of a window of C{width}, counted from the
    latest sighting: the window begins with the very next one, unless others make so many mappings
    in the meantime that its middle would not reach them.

    @param seconds: from the latest sighting's mapping to the burst.
    """
    expected = 1 + traffic(sightings, delta) * seconds
    return max(width, ceil(expected + width / 2))
