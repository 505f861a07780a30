"""
Who may meet whom at the relay: the tokens that come with introductions.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field, frozen
from twisted.internet.interfaces import IReactorTime

from punchd.server.sessions import Session
from punchd.values.peers import PeerID
from punchd.wire.preamble import Side
from punchd.wire.relaying import TOKEN_LENGTH

#: Seconds that a token waits for its use: longer than an introduction lives, whose end does not
#: matter to it. The relayed path may be what the introduction has led to.
LIFETIME = 30.0


@frozen
class Member:
    """
    One of the two peers of a meeting. Its master connection may end, and the path live on.
    """

    peerID: PeerID
    name: str


@define(eq=False)
class Meeting:
    """
    Two peers that may have a relayed path. Made with their introduction.

    @ivar session: the introduction's.
    @ivar members: the caller and the callee, as in L{Side}.
    """

    session: bytes
    members: tuple[Member, Member]

    def __str__(self) -> str:
        return " and ".join(member.name for member in self.members)


@define(eq=False)
class RelayTokens:
    """
    All tokens of a server that are waiting for their use.
    """

    _clock: IReactorTime
    _entropy: Callable[[int], bytes]
    # In the order of their ends, as all live equally long.
    _waiting: dict[bytes, tuple[Meeting, Side, float]] = field(factory=dict, init=False)

    def issue(self, session: bytes, caller: Session, callee: Session) -> tuple[bytes, bytes]:
        """
        Tokens for the two sides of an introduction, the caller's first.
        """
        one, two = (Member(member.peerID, member.name) for member in (caller, callee))
        meeting, until = Meeting(session, (one, two)), self._clock.seconds() + LIFETIME
        tokens = self._entropy(TOKEN_LENGTH), self._entropy(TOKEN_LENGTH)
        for token, side in zip(tokens, Side, strict=True):
            self._waiting[token] = (meeting, side, until)
        return tokens

    def take(self, token: bytes) -> tuple[Meeting, Side] | None:
        """
        Somebody has shown C{token}; it is good no longer.

        @return: whose it is; C{None} when there is no such token, or it was taken before.
        """
        self.sweep()
        found = self._waiting.pop(token, None)
        return None if found is None else found[:2]

    def sweep(self) -> None:
        """
        Forget what is too old.
        """
        now = self._clock.seconds()
        while self._waiting:
            token, (_, _, until) = next(iter(self._waiting.items()))
            if until > now:
                return
            del self._waiting[token]

    def __len__(self) -> int:
        return len(self._waiting)
