"""
Ports beside the one that a peer is called at: taken fresh, and shown to the server's assist
service, so that the server knows under which address each is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from punchd.errors import PunchdError, Unreachable
from punchd.net.held import HeldPort
from punchd.peer.assist import Touch, touch
from punchd.values.addresses import Address
from punchd.wire.commands import MOST_TOKENS, Tokens
from punchd.wire.observing import MASK_LENGTH, Question

_log = Logger()

#: Tokens kept in stock, so that a fresh port need not wait for one, and for how many seconds they
#: are good: less than the server keeps them.
_STOCK = 4
_FRESH = 45.0


@define(eq=False)
class FreshPorts:
    """
    The fresh ports of one L{MasterClient<punchd.peer.master.MasterClient>}, and the tokens for
    them.

    @ivar _ask: asks the server, as L{Conversation.ask<punchd.peer.conversation.Conversation.ask>}.
    """

    _reactor: Any
    _entropy: Callable[[int], bytes]
    _acceptor: IProtocolFactory
    _ask: Callable[..., Deferred[dict[str, Any]]]
    _tokens: list[tuple[float, bytes]] = field(factory=list, init=False)
    _touches: dict[HeldPort, Touch] = field(factory=dict, init=False)

    async def take(self, assist: Address, interface: str = "") -> HeldPort:
        """
        A port that the assist service at C{assist} has just observed; to be released.

        @param interface: the address to take it at, if C{assist} is one of IPv6.
        @raise PunchdError: when the server or its assist service is not to be had.
        """
        token = await self._token()
        port = HeldPort.take(self._reactor, self._acceptor, interface=interface)
        try:
            self._touches[port] = await self._touch(port, assist, token)
        except BaseException:
            port.close()
            raise
        return port

    def seenAt(self, observed: Address) -> HeldPort | None:
        """
        The port that an assist service has observed there, if it is not released yet.
        """
        return next((port for port in self._touches if port.observed == observed), None)

    async def observedAt(self, port: HeldPort, assist: Address) -> Address | None:
        """
        How another assist service sees a port that was taken already.

        @raise PunchdError: as L{take}.
        """
        touched = await self._touch(port, assist, await self._token())
        touched.close()
        return touched.observedAddress

    def release(self, port: HeldPort) -> None:
        """
        Let go of a port. Connections made from it live on.
        """
        touched = self._touches.pop(port, None)
        if touched is not None:
            touched.close()
        port.close()

    def releaseAll(self) -> None:
        """
        Let go of all of them.
        """
        for port in list(self._touches):
            self.release(port)

    def forgetTokens(self) -> None:
        """
        The connection that they came by has ended, and they with it.
        """
        self._tokens.clear()

    async def _touch(self, port: HeldPort, assist: Address, token: bytes) -> Touch:
        question = Question(token, self._entropy(MASK_LENGTH))
        return await touch(self._reactor, port, assist, question)

    async def _token(self) -> bytes:
        now = self._reactor.seconds()
        self._tokens = [(until, token) for until, token in self._tokens if until > now]
        if not self._tokens:
            await self._stock()
        _, token = self._tokens.pop()
        if not self._tokens:
            inBackground(self._stock())
        return token

    async def _stock(self) -> None:
        answer = await self._ask(Tokens, count=min(_STOCK, MOST_TOKENS))
        until = self._reactor.seconds() + _FRESH
        self._tokens.extend((until, token) for token in answer["tokens"])
        if not self._tokens:
            raise Unreachable("the server gives no tokens for its assist service")


def inBackground(work: Coroutine[Any, Any, object]) -> None:
    """
    Do something that nobody waits for. That the server is not to be had meanwhile is no news.
    """

    def failed(failure: Failure) -> None:
        if failure.check(PunchdError) is None:
            _log.failure("in the background", failure)

    Deferred.fromCoroutine(work).addErrback(failed)
