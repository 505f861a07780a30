"""
The way to the relay of a server.
"""

from __future__ import annotations

from functools import partial

from punchd.errors import PunchdError
from punchd.link.relayed import relayedConnection
from punchd.peer.master import MasterClient
from punchd.peer.meeting import RelayDialler


def relayDialler(client: MasterClient, token: bytes | None) -> RelayDialler | None:
    """
    What opens a relayed connection; C{None} where there is no relay for us.

    @param token: what the server has given us for this introduction.
    """
    if token is None:
        return None
    try:
        where = client.relay()
    except PunchdError:
        return None
    if where is None:
        return None
    return partial(relayedConnection, client.clock, where.host, where.port, token)
