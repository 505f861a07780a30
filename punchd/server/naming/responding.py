"""
From a question's bytes to the answer's, within what may be sent to whom.

Anybody can send a datagram in another's name. So an answer over UDP has at most 512 bytes, and
there are only so many a second for one network, unless the question carries a cookie (RFC 7873)
that only who receives at its source can know. When there are too many, every other question is
answered by an invitation to TCP, which is no longer than the question: so who is really there finds
a way, and who is not gets little.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from ipaddress import ip_address

from attrs import define, field
from twisted.internet.interfaces import IReactorTime
from twisted.names import dns

from punchd.server.limits import Networks, networkOf
from punchd.server.naming.messages import (
    LEAST_UDP,
    MOST_TCP,
    MOST_UDP,
    Query,
    packReply,
    packTruncated,
    parseQuery,
)
from punchd.server.naming.zone import Reply, Zone
from punchd.values.addresses import Address

#: Answers for one network, per second and at once: by UDP without a cookie, and otherwise.
ANSWERS_PER_SECOND = 100.0
ANSWERS_AT_ONCE = 200.0

#: Networks whose answers are counted, at most.
MOST_NETWORKS = 8192

#: Seconds that a cookie is good for.
COOKIE_LIFETIME = 3600

_SECRET_LENGTH = 32
_SEAL_LENGTH = 8
_STAMP_LENGTH = 4


def _counted(clock: IReactorTime) -> Networks:
    return Networks(clock, ANSWERS_PER_SECOND, ANSWERS_AT_ONCE, MOST_NETWORKS)


@define(eq=False)
class Responder:
    """
    Answers for one server, however questions come in. Made by the server, and lives as long.

    @ivar zone: what is asked for.
    @ivar _entropy: makes the secret that cookies are made with.
    """

    _clock: IReactorTime
    zone: Zone
    _entropy: Callable[[int], bytes]
    _secret: bytes = field(init=False)
    _unverified: Networks = field(init=False)
    _verified: Networks = field(init=False)
    _isInvited: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._secret = self._entropy(_SECRET_LENGTH)
        self._unverified = _counted(self._clock)
        self._verified = _counted(self._clock)

    def toDatagram(self, packed: bytes, source: Address) -> bytes | None:
        """
        The answer to a datagram.

        @return: C{None} if there is to be none.
        """
        query = parseQuery(packed)
        if query is None:
            return None
        isVerified = self._isKnown(query, source)
        cookie = self._cookieFor(query, source)
        if not self._mayAnswer(source, isVerified):
            self._isInvited = not self._isInvited and not query.problem
            return packTruncated(query, cookie) if self._isInvited else None
        most = LEAST_UDP
        if isVerified and query.extension is not None:
            most = min(max(query.extension.size, LEAST_UDP), MOST_UDP)
        return packReply(query, self._reply(query), most, cookie)

    def toStream(self, packed: bytes, source: Address) -> bytes | None:
        """
        The answer to a question that came by TCP, so surely from C{source}.

        @return: C{None} if the connection is to be ended.
        """
        query = parseQuery(packed)
        if query is None or not self._mayAnswer(source, isVerified=True):
            return None
        return packReply(query, self._reply(query), MOST_TCP, self._cookieFor(query, source))

    def sweep(self) -> None:
        """
        Forget from whom nothing came lately.
        """
        self._unverified.forget()
        self._verified.forget()

    def _reply(self, query: Query) -> Reply:
        if query.problem or query.question is None:
            return Reply(query.problem or dns.EFORMAT)
        return self.zone.answer(query.question)

    def _mayAnswer(self, source: Address, isVerified: bool) -> bool:
        return (self._verified if isVerified else self._unverified).take(networkOf(source))

    def _isKnown(self, query: Query, source: Address) -> bool:
        """
        Whether the question carries a cookie that we have given to its source, not long ago.
        """
        extension = query.extension
        if extension is None or extension.clientCookie is None or not extension.serverCookie:
            return False
        stamp = extension.serverCookie[:_STAMP_LENGTH]
        age = self._clock.seconds() - int.from_bytes(stamp, "big")
        if not 0 <= age < COOKIE_LIFETIME:
            return False
        ours = self._cookie(extension.clientCookie, stamp, source)
        return hmac.compare_digest(extension.serverCookie, ours)

    def _cookieFor(self, query: Query, source: Address) -> bytes:
        extension = query.extension
        if extension is None or extension.clientCookie is None:
            return b""
        stamp = int(self._clock.seconds()).to_bytes(_STAMP_LENGTH, "big")
        return self._cookie(extension.clientCookie, stamp, source)

    def _cookie(self, client: bytes, stamp: bytes, source: Address) -> bytes:
        sealed = client + stamp + ip_address(source.host).packed
        return stamp + hmac.digest(self._secret, sealed, "sha256")[:_SEAL_LENGTH]
