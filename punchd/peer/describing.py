"""
A peer's servers, for people.
"""

from __future__ import annotations

from typing import Any

from punchd.peer.master import MasterClient
from punchd.values.addresses import showAddress


def describeServer(client: MasterClient, dns: str | None) -> dict[str, Any]:
    """
    One of them, as C{punchd status --json} shows it.

    @param dns: what the peer is called in its zone, if it is.
    """
    welcome, mapping, nat = client.welcome, client.nat.mapping, client.discovering.report
    return {
        "server": str(client.join),
        "connected": client.isConnected,
        "problem": client.problem,
        "observed": None if welcome is None else showAddress(welcome.observed),
        "ipv6": None if client.ipv6.port is None else showAddress(client.ipv6.port.observed),
        "dns": dns,
        "mapping": None if mapping is None else mapping.value,
        "nat": None if nat is None else nat.line(),
        "rtt": None if client.roundTrip is None else round(client.roundTrip, 6),
    }
