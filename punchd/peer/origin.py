"""
From which port an introduction is asked for: the one that the peer is called at, or a fresh one.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from attrs import field, frozen
from twisted.internet.defer import Deferred, TimeoutError

from punchd.errors import PunchdError
from punchd.net.held import HeldPort
from punchd.peer.master import MasterClient
from punchd.peer.usage import Use
from punchd.values.peers import PeerID

#: Seconds that a fresh port may take where another might do: the relayed path, which needs none,
#: comes of the same introduction.
_SPARE = 1.0


@frozen
class Origin:
    """
    @ivar port: the one that the server and the other side shall see.
    @ivar ipv6: that of our IPv6 candidate, if we have one.
    """

    _client: MasterClient = field(repr=False)
    port: HeldPort
    ipv6: HeldPort | None
    _isFresh: bool

    def used(self, peerID: PeerID) -> AbstractContextManager[Use]:
        """
        It is used for a punch toward that peer, and for the path that comes of it. A fresh one is
        used for nothing else.
        """
        return nullcontext(Use()) if self._isFresh else self._client.usage.toward(peerID)

    def release(self) -> None:
        """
        Nothing more is dialled from it. Connections live on.
        """
        if self._isFresh:
            for port in (self.port, self.ipv6):
                if port is not None:
                    self._client.release(port)


async def originFor(client: MasterClient, peerID: PeerID, punching: bool) -> Origin:
    """
    For a first introduction to that peer: the port that we are called at, unless it is used toward
    that peer already, or was until lately.

    @param punching: whether anything will be dialled.
    @return: to be released.
    @raise PunchdError: when only a fresh port will do, and there is none.
    """
    usage = client.usage
    if punching and usage.isOngoing(peerID):
        return await freshOrigin(client)
    if punching and not usage.isFree(peerID):
        taking = Deferred.fromCoroutine(freshOrigin(client))
        try:
            return await taking.addTimeout(_SPARE, client.clock)
        except (PunchdError, TimeoutError):
            # The other one may do all the same.
            pass
    return Origin(client, client.port, client.ipv6.port, isFresh=False)


async def freshOrigin(client: MasterClient) -> Origin:
    """
    A port that the server has just observed, and one at our IPv6 address if we have one: both are
    taken at the same time.

    @return: to be released.
    @raise PunchdError: when the server or its assist service is not to be had.
    """
    taking = client.ipv6.fresh()
    try:
        port = await client.freshPort()
        try:
            return Origin(client, port, await taking, isFresh=True)
        except BaseException:
            client.release(port)
            raise
    except BaseException:
        taking.addCallbacks(
            lambda ipv6: None if ipv6 is None else client.release(ipv6), lambda failure: None
        )
        taking.cancel()
        raise
