"""
Under which names and addresses peers find the server and its assist services.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_address

from twisted.internet.address import IPv6Address

from punchd.errors import ConfigurationError
from punchd.values.addresses import Address
from punchd.wire.commands import Assist

# Hosts that can stand in a certificate and in a join address, once they are in their ASCII form.
_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_-]{1,63})*\.?\Z", re.I
)


def checkedHost(text: str) -> str:
    """
    Return the host that C{text} names: a DNS name in its ASCII form, or a literal address without
    brackets.

    @raise ConfigurationError: when it is neither.
    """
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        return str(ip_address(bare))
    except ValueError:
        pass
    try:
        name = text.encode("idna").decode("ascii")
    except UnicodeError:
        name = ""
    if _HOST_NAME.match(name) is None:
        raise ConfigurationError(f"{text[:80]!r} is neither a host name nor an address")
    return name


def assistsAt(assist: Address, master: Address, hosts: Sequence[str]) -> list[Assist]:
    """
    How peers are told of an assist service: at the host where they found the master, unless that
    does not lead to it.

    A peer whose master connection is of one family needs a literal address for an assist service of
    the other one. That is where the service is bound, or one of C{hosts}.

    @param assist: where it listens.
    @param master: where the master service does.
    @param hosts: names and addresses of the server.
    """
    if not ip_address(assist.host).is_unspecified:
        return [Assist(None if assist.host == master.host else assist.host, assist.port)]
    isSixth = isinstance(assist, IPv6Address)
    literals = [host for host in hosts if _isLiteral(host) and isIPv6(host) == isSixth]
    there = [Assist(host, assist.port) for host in literals[:1]]
    if isSixth == isinstance(master, IPv6Address):
        # Unspecified and of IPv6, it mostly serves IPv4 too.
        return [Assist(None, assist.port), *(there if isSixth else [])]
    return there or [Assist(None, assist.port)]


def assistsBeside(assists: Sequence[Address], master: Address) -> list[Assist]:
    """
    Where else assist services are to be found that are bound to no address: at those that other
    ones are bound to.
    """
    hosts = {
        assist.host
        for assist in assists
        if not ip_address(assist.host).is_unspecified and assist.host != master.host
    }
    return [
        Assist(host, assist.port)
        for assist in assists
        if ip_address(assist.host).is_unspecified
        for host in sorted(hosts)
        if isIPv6(host) == isIPv6(assist.host)
    ]


def _isLiteral(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def isIPv6(host: str) -> bool:
    """
    Whether C{host}, a literal address or a name, is an address of IPv6.
    """
    return ":" in host
