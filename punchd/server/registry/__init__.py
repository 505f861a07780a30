"""
Where the server keeps what must outlive it: which key owns which name.

Names are compared without regard to case, as in DNS, so that nobody can be C{Bob} beside C{bob}.
"""

from __future__ import annotations

from punchd.errors import Refused


def taken(name: str) -> Refused:
    """
    What a peer hears that wants the name of another one.
    """
    return Refused(
        f"the name {name!r} belongs to another key on this server: choose another one with --name, "
        "or have who runs the server take it out of the registry"
    )
