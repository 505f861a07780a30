"""
What of a peer shall be in the DNS, as arguments of commands.
"""

from __future__ import annotations

from typing import Any

from punchd.values.naming import UNLISTED, Listing
from punchd.wire.arguments import Few, Flag, ServicePort

#: How many published services a peer may name.
MOST_PUBLISHED = 16

#: The arguments.
LISTING = [
    (b"listed", Flag(optional=True)),
    (b"published", Few(ServicePort(), MOST_PUBLISHED, optional=True)),
]


def listingArguments(listing: Listing) -> dict[str, Any]:
    """
    C{listing} as their values.
    """
    return {
        "listed": listing.hasAddress or None,
        "published": list(listing.services) or None,
    }


def listingFrom(arguments: dict[str, Any]) -> Listing:
    """
    The inverse; other arguments are ignored.
    """
    listing = Listing(bool(arguments.get("listed")), tuple(arguments.get("published") or ()))
    # One for all of the many that want nothing.
    return UNLISTED if listing.isEmpty else listing
