"""
Why there is no relayed path now, as it crosses a master connection.
"""

from __future__ import annotations

from typing import Any

from twisted.protocols import amp

from punchd.errors import Limited
from punchd.wire.arguments import Line

#: The arguments.
LIMIT = [(b"relaylimit", Line(optional=True)), (b"relaywait", amp.Integer(optional=True))]

#: Seconds that a peer is told to wait at most; longer means no more to anybody.
LONGEST_WAIT = 7 * 86_400


def limitArguments(limit: Limited | None) -> dict[str, Any]:
    """
    A limit as the arguments of a command.
    """
    if limit is None:
        return {"relaylimit": None, "relaywait": None}
    return {"relaylimit": str(limit), "relaywait": min(int(limit.seconds) + 1, LONGEST_WAIT)}


def limitFrom(arguments: dict[str, Any]) -> Limited | None:
    """
    The inverse. Whatever a server says, it is a time to reckon with.
    """
    reason = arguments.get("relaylimit")
    if reason is None:
        return None
    return Limited(reason, min(max(arguments.get("relaywait") or 0, 0), LONGEST_WAIT))
