"""
What one side of an introduction needs to tell the right connections from all others.
"""

from __future__ import annotations

from attrs import field, frozen
from OpenSSL.SSL import Context

from punchd.errors import NotTrusted, ProtocolViolation
from punchd.identity.tls import ConnectionCreator, Verdict, onlyPeer
from punchd.values.peers import PeerID
from punchd.wire.preamble import Preamble, Side


@frozen
class Ticket:
    """
    Made for one introduction, the same for all its connections.

    @ivar side: ours.
    @ivar nonce: ours, random: who meets it on the other side has met itself.
    @ivar expected: who must be at the other end.
    @ivar who: the name under which we know it.
    """

    session: bytes
    side: Side
    nonce: bytes
    expected: PeerID
    who: str
    _context: Context = field(repr=False)

    @property
    def preamble(self) -> Preamble:
        """
        What we say first.
        """
        return Preamble(self.side, self.session, self.nonce)

    def check(self, theirs: Preamble) -> None:
        """
        @raise ProtocolViolation: when the other end belongs to another session, or is ourselves.
        @raise NotTrusted: when it claims our own side.
        """
        if theirs.nonce == self.nonce:
            raise ProtocolViolation("this is a connection to ourselves")
        if theirs.session != self.session:
            raise ProtocolViolation("this connection belongs to another introduction")
        if theirs.side is not self.side.other:
            raise NotTrusted(f"both ends claim to be the {self.side.name.lower()}")

    def connectionCreator(self) -> tuple[ConnectionCreator, Verdict]:
        """
        For one handshake: what makes its OpenSSL connection, and where its verdict will be.
        """
        verdict = Verdict(onlyPeer(self.expected, self.who))
        return ConnectionCreator(self._context, lambda: verdict), verdict
