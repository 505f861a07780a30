"""
Tests for L{punchd.link.tickets}.
"""

import pytest

from punchd.errors import NotTrusted, ProtocolViolation
from punchd.wire.preamble import Preamble, Side
from tests.unit.link.pairs import SESSION, makeTicket


@pytest.mark.parametrize("side", Side)
def test_theOtherSideOfTheSessionPasses(side: Side) -> None:
    makeTicket(side).check(makeTicket(side.other).preamble)


def test_ourOwnNonceIsAConnectionToOurselves() -> None:
    ticket = makeTicket(Side.CALLER)
    with pytest.raises(ProtocolViolation, match="to ourselves"):
        ticket.check(ticket.preamble)


def test_anotherSessionIsAViolation() -> None:
    with pytest.raises(ProtocolViolation, match="another introduction"):
        makeTicket(Side.CALLER).check(Preamble(Side.CALLEE, b"o" * 16, b"n" * 16))


def test_ourOwnSideIsNotTrusted() -> None:
    with pytest.raises(NotTrusted, match="both ends claim to be the caller"):
        makeTicket(Side.CALLER).check(Preamble(Side.CALLER, SESSION, b"n" * 16))


def test_theContextIsNotShown() -> None:
    assert "Context" not in repr(makeTicket(Side.CALLER))
