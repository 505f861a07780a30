"""
Connections that wait to be accepted.
"""

from __future__ import annotations

import re

#: How many may, where the system allows it. Twisted says 50, and the SYNs of those beyond are
#: dropped (listen(2)): of a hundred that somebody opens at once, half come a second later.
BACKLOG = 1024

# Endpoint strings that take a backlog.
_KINDS = ("tcp:", "tcp6:", "ssl:", "unix:")

# Between the parts of one.
_COLON = re.compile(r"(?<!\\):")


def withBacklog(text: str) -> str:
    """
    An endpoint string for listening, with that backlog unless it says another, or takes none.
    """
    # Whoever does not name the arguments behind the first may mean one of them for it.
    isNamed = all("=" in part for part in _COLON.split(text)[2:])
    if not text.startswith(_KINDS) or ":backlog=" in text or not isNamed:
        return text
    return f"{text}:backlog={BACKLOG}"
