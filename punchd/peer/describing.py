"""
A peer's servers, and what stands before it, for people.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.interfaces import IReactorTime

from punchd.errors import Unreachable
from punchd.peer.master import MasterClient
from punchd.values.addresses import showAddress

#: Seconds for which C{punchd nat} waits for what is being found out.
NAT_PATIENCE = 8.0


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


async def findNat(
    clients: Sequence[MasterClient], clock: IReactorTime, again: bool
) -> dict[str, Any]:
    """
    As C{punchd nat --json} shows it: from the first server that is connected. When looking anew has
    failed, what was found before is there, and C{problem} says why.

    @param again: whether to look anew, whatever is known.
    @raise Unreachable: when there is no server, or nothing could be found out.
    """
    connected = [client for client in clients if client.isConnected]
    if not connected:
        raise Unreachable("not connected to any server, which it takes to find out")
    client, discovering = connected[0], connected[0].discovering
    if again:
        discovering.begin()
    await discovering.whenFound().addTimeout(NAT_PATIENCE, clock, lambda *_: None)
    if discovering.report is None:
        raise Unreachable(f"{discovering.problem or 'nothing was found out yet'}: try --again")
    found = discovering.report.toJSON()
    return {"server": str(client.join), **found, "problem": discovering.problem}
