"""
Tests for L{punchd.server.relaytokens}.
"""

from attrs import define, field
from twisted.internet.task import Clock

from punchd.server.relaytokens import LIFETIME, Meeting, RelayTokens
from punchd.wire.preamble import Side
from tests.unit.server.pretending import Counter, makeSession, peerID


@define
class World:
    """
    The tokens of a server.
    """

    clock: Clock = field(factory=Clock)
    tokens: RelayTokens = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.tokens = RelayTokens(self.clock, Counter())

    def issue(self, session: bytes = b"s" * 16) -> tuple[bytes, bytes]:
        alice = makeSession(self.clock, 1, name="alice")
        bob = makeSession(self.clock, 2, name="bob")
        return self.tokens.issue(session, alice, bob)

    def taken(self, token: bytes) -> tuple[Meeting, Side]:
        found = self.tokens.take(token)
        assert found is not None
        return found


def test_theTokensOfAnIntroductionLeadToOneMeeting() -> None:
    world = World()
    one, two = world.issue()
    meeting, side = world.taken(one)
    assert side is Side.CALLER
    assert world.taken(two) == (meeting, Side.CALLEE)
    assert [member.peerID for member in meeting.members] == [peerID(1), peerID(2)]
    assert str(meeting) == "alice and bob"


def test_theTokensOfAnotherIntroductionLeadToAnotherMeeting() -> None:
    world = World()
    [one, _], [other, _] = world.issue(b"1" * 16), world.issue(b"2" * 16)
    assert world.taken(one)[0] is not world.taken(other)[0]


def test_aTokenIsGoodOnce() -> None:
    world = World()
    one, two = world.issue()
    world.taken(one)
    assert world.tokens.take(one) is None
    assert world.taken(two)[1] is Side.CALLEE


def test_aForgedTokenIsNone() -> None:
    world = World()
    world.issue()
    assert world.tokens.take(b"f" * 16) is None


def test_aTokenIsForgottenInTime() -> None:
    world = World()
    one, _ = world.issue()
    world.clock.advance(LIFETIME - 1)
    [later, _] = world.issue()
    world.clock.advance(1)
    assert world.tokens.take(one) is None
    assert len(world.tokens) == 2
    world.taken(later)


def test_theSweepLetsGoOfAll() -> None:
    world = World()
    world.issue()
    world.clock.advance(LIFETIME)
    world.tokens.sweep()
    assert len(world.tokens) == 0
