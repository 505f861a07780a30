"""
Ways of asking a router for a port, best first: PCP, NAT-PMP, UPnP-IGD.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from punchd.interfaces import IPortMapper
from punchd.nat.gateway import Gateway
from punchd.nat.mapping.natpmp import NATPMP
from punchd.nat.mapping.pcp import PCP
from punchd.net.datagrams import Datagrams


def mappersFor(
    reactor: Any, random: Random, entropy: Callable[[int], bytes], gateway: Gateway
) -> list[IPortMapper]:
    """
    All ways of asking C{gateway}.
    """
    # Not at the beginning of this file: Twisted's HTTP client is large, and only who has a router
    # needs it.
    from punchd.nat.mapping.upnp import UPnP

    datagrams = Datagrams(reactor)
    return [
        PCP(datagrams, random, entropy, gateway),
        NATPMP(datagrams, gateway),
        UPnP(reactor, datagrams, random, gateway),
    ]
