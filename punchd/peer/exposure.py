"""
What is behind a service of this peer.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint
from twisted.internet.protocol import Factory

from punchd.errors import ConfigurationError
from punchd.net.splicing import SpliceEnd
from punchd.values.addresses import Ends
from punchd.values.peers import PeerAddress
from punchd.wire.proxying import ProxyVersion


@frozen
class Exposure:
    """
    An endpoint, and whether it wants to hear who comes.

    @ivar version: of the PROXY protocol, in which it is told so; C{None} if it is not.
    """

    endpoint: IStreamClientEndpoint
    version: ProxyVersion | None = None

    def connect(
        self, local: SpliceEnd, ends: Ends | None, caller: PeerAddress | None
    ) -> Deferred[IProtocol]:
        """
        Connect C{local} to the endpoint.

        @param ends: from where somebody comes, and to where; C{None} if that is not known.
        @param caller: who; C{None} if it is no peer.
        """
        if self.version is not None:
            local.greeting = self.version.pack(ends, caller)
        factory = Factory.forProtocol(lambda: local)
        factory.noisy = False
        connecting: Deferred[Any] = self.endpoint.connect(factory)
        return connecting


def splitVersion(text: str) -> tuple[ProxyVersion | None, str]:
    """
    Take the version off C{[proxy-v1:|proxy-v2:]ENDPOINT}, if there is one.

    @raise ConfigurationError: when there is no such version, or nothing behind it.
    """
    before, _, after = text.partition(":")
    if not before.startswith("proxy-"):
        return None, text
    try:
        version = ProxyVersion(before)
    except ValueError:
        known = " and ".join(version.value for version in ProxyVersion)
        raise ConfigurationError(
            f"--expose: {before[:80]!r} is no version of the PROXY protocol: there are {known}"
        ) from None
    if not after:
        raise ConfigurationError(
            f"--expose: there is no endpoint behind {text!r}: say {before}:tcp:127.0.0.1:80"
        )
    return version, after
