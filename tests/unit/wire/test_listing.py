"""
Tests for L{punchd.wire.listing}.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from punchd.errors import ProtocolViolation
from punchd.values.naming import UNLISTED, Listing
from punchd.values.parties import Offer
from punchd.values.peers import PeerID
from punchd.wire.commands import Hello, Update, offerArguments
from punchd.wire.listing import MOST_PUBLISHED, listingArguments, listingFrom
from tests.unit.wire.test_arguments import NAMES
from tests.unit.wire.test_commands import roundTrip

SERVICES = st.tuples(NAMES, st.integers(1, 65535))
SAID = {"accepts": frozenset[PeerID](), **offerArguments(Offer())}


@given(
    st.builds(Listing, st.booleans(), st.lists(SERVICES, max_size=MOST_PUBLISHED).map(tuple)),
)
def test_aListingArrives(listing: Listing) -> None:
    assert listingFrom(roundTrip(Update, {**SAID, **listingArguments(listing)})) == listing


def test_whoSaysNothingWantsNothing() -> None:
    sent = {**SAID, "version": 1, "oldest": 1, "name": "bob"}
    assert listingFrom(roundTrip(Hello, sent)) is UNLISTED
    assert b"listed" not in Hello.makeArguments({**sent, **listingArguments(UNLISTED)}, None)


def test_thereIsABoundToServices() -> None:
    listing = Listing(False, (("web", 80),) * (MOST_PUBLISHED + 1))
    with pytest.raises(ProtocolViolation, match="17 elements"):
        roundTrip(Update, {**SAID, **listingArguments(listing)})
