"""
Letting a server make sure that it is this peer who is to be found at an address.
"""

from __future__ import annotations

from typing import Any
from typing import Protocol as Typing

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from punchd.peer.conversation import Welcome, inTime
from punchd.values.addresses import Address
from punchd.wire.commands import Prove
from punchd.wire.proving import SECRET_LENGTH


class Asker(Typing):
    """
    What a L{MasterClient<punchd.peer.master.MasterClient>} is here.
    """

    clock: IReactorTime
    welcome: Welcome | None

    def entropy(self, length: int, /) -> bytes:
        """
        Random bytes.
        """

    def ask(self, command: Any, **arguments: Any) -> Deferred[dict[str, Any]]:
        """
        Ask the server.
        """


async def isFoundAt(client: Asker, mapped: Address, secrets: set[bytes]) -> bool:
    """
    Let the server dial C{mapped}.

    @param secrets: what who listens there takes challenges by. One more is in it meanwhile.
    @return: whether the server was answered; not if it sees us at another address.
    @raise PunchdError: when the server is not to be had, or will not look now.
    """
    if client.welcome is not None and mapped.host != client.welcome.observed.host:
        return False
    secret = client.entropy(SECRET_LENGTH)
    secrets.add(secret)
    try:
        answer = await inTime(
            client.ask(Prove, port=mapped.port, secret=secret),
            client.clock,
        )
    finally:
        secrets.discard(secret)
    return bool(answer["proven"])
