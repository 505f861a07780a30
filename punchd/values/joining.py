"""
Where a server is and how to know it: the join address.
"""

from __future__ import annotations

import re

from attrs import frozen

from punchd.errors import ConfigurationError
from punchd.values.addresses import splitHostPort
from punchd.values.peers import PeerID

#: The master service's port where nothing else is said.
MASTER_PORT = 7761

# Resolvers differ in what they take for a name. These show that it is a URL or an account.
_NO_HOST = re.compile(r"[\s/@]")


@frozen
class JoinAddress:
    """
    C{HOST[:PORT][#PIN]}.

    @ivar pin: the ID of the server's key; without it the server's certificate must be valid for
        C{host}.
    """

    host: str
    port: int = MASTER_PORT
    pin: PeerID | None = None

    @classmethod
    def parse(cls, text: str) -> JoinAddress:
        """
        @raise ConfigurationError: when C{text} is not of that form.
        """
        where, hash_, pin = text.strip().partition("#")
        if not where:
            raise ConfigurationError(f"expected HOST[:PORT][#PIN], not {text!r}")
        host, port = splitHostPort(where, MASTER_PORT)
        if _NO_HOST.search(host) is not None:
            raise ConfigurationError(f"{host[:80]!r} is neither a host name nor an address")
        try:
            return cls(host, port, PeerID.parse(pin) if hash_ else None)
        except ConfigurationError:
            raise ConfigurationError(
                f"{pin[:80]!r} is no server's pin: what follows '#' in a join address has 64 "
                "hexadecimal digits"
            ) from None

    @property
    def where(self) -> str:
        """
        C{HOST:PORT}.
        """
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return self.where if self.pin is None else f"{self.where}#{self.pin}"
