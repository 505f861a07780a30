"""
Internet addresses: as text, as bytes, and how far each reaches.
"""

from __future__ import annotations

import re
from enum import IntEnum
from ipaddress import IPv4Address as IPv4
from ipaddress import IPv6Address as IPv6
from ipaddress import ip_address, ip_network
from typing import Any

from attrs import frozen
from twisted.internet.address import IPv4Address, IPv6Address

from punchd.errors import ConfigurationError

#: Where a TCP port of a host is.
Address = IPv4Address | IPv6Address


@frozen
class Ends:
    """
    Between which addresses a connection is.

    @ivar there: the other side's; C{here}: this one's.
    """

    there: Address
    here: Address


def endsOf(transport: Any) -> Ends | None:
    """
    Those of a connection, if it is one of TCP.
    """
    there, here = transport.getPeer(), transport.getHost()
    if not isinstance(there, Address) or not isinstance(here, Address):
        return None
    # A socket of both families tells IPv4 addresses in a form of IPv6's.
    return Ends(makeAddress(there.host, there.port), makeAddress(here.host, here.port))


class Scope(IntEnum):
    """
    How far an address reaches; a wider scope is greater.
    """

    NEVER = 0
    LOOPBACK = 1
    LINK = 2
    PRIVATE = 3
    GLOBAL = 4


_NEVER = [
    ip_network(text)
    for text in ("0.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4", "::/128", "ff00::/8", "::ffff:0:0/96")
]
_LOOPBACK = [ip_network("127.0.0.0/8"), ip_network("::1/128")]
_LINK = [ip_network("169.254.0.0/16"), ip_network("fe80::/10")]
# RFC 1918, RFC 6598 (carrier NATs), RFC 4193.
_PRIVATE = [
    ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
]

# RFC 4291, 2.4: what is given out of the space for global unicast. Not 6to4 (RFC 3056) nor Teredo
# (RFC 4380), which are IPv4 addresses in disguise.
_GLOBAL_UNICAST = ip_network("2000::/3")
_TUNNELS = [ip_network("2002::/16"), ip_network("2001::/32")]


def scopeOf(address: Address) -> Scope:
    """
    How far C{address} reaches. Port 0 and what is no unicast address reach nowhere.
    """
    host = ip_address(address.host)
    if not 0 < address.port < 65536:
        return Scope.NEVER
    for scope, networks in (
        (Scope.NEVER, _NEVER),
        (Scope.LOOPBACK, _LOOPBACK),
        (Scope.LINK, _LINK),
        (Scope.PRIVATE, _PRIVATE),
    ):
        if any(host.version == network.version and host in network for network in networks):
            return scope
    return Scope.GLOBAL


def isGlobalIPv6(address: Address) -> bool:
    """
    Whether C{address} is a port at a global unicast address of IPv6.
    """
    host = ip_address(address.host)
    return (
        host.version == 6
        and scopeOf(address) is Scope.GLOBAL
        and host in _GLOBAL_UNICAST
        and not any(host in network for network in _TUNNELS)
    )


def makeAddress(host: str, port: int) -> Address:
    """
    The TCP address of a literal IPv4 or IPv6 host.

    @raise ValueError: when C{host} is a name, or C{port} no port.
    """
    if not 0 <= port < 65536:
        raise ValueError(f"no TCP port: {port}")
    parsed = ip_address(host)
    if parsed.version == 4:
        return IPv4Address("TCP", str(parsed), port)
    if parsed.ipv4_mapped is not None:
        return IPv4Address("TCP", str(parsed.ipv4_mapped), port)
    return IPv6Address("TCP", str(parsed), port)


def packAddress(address: Address) -> bytes:
    """
    C{address} as 6 (IPv4) or 18 (IPv6) bytes: the host, then the port, big-endian.
    """
    return ip_address(address.host).packed + address.port.to_bytes(2, "big")


def unpackAddress(packed: bytes) -> Address:
    """
    The inverse of L{packAddress}.

    @raise ValueError: when the length fits neither family.
    """
    if len(packed) == 6:
        return makeAddress(str(IPv4(packed[:4])), int.from_bytes(packed[4:], "big"))
    if len(packed) == 18:
        return IPv6Address("TCP", str(IPv6(packed[:16])), int.from_bytes(packed[16:], "big"))
    raise ValueError(f"an address has 6 or 18 bytes, not {len(packed)}")


def showAddress(address: object) -> str:
    """
    C{address} as people write it: C{192.0.2.1:80}, C{[2001:db8::1]:80}.
    """
    if isinstance(address, IPv6Address):
        return f"[{address.host}]:{address.port}"
    if isinstance(address, IPv4Address):
        return f"{address.host}:{address.port}"
    return str(address)


def splitHostPort(text: str, defaultPort: int | None = None) -> tuple[str, int]:
    """
    Take C{HOST:PORT}, C{[IPV6]:PORT} or, with a default port, C{HOST} apart.

    @raise ConfigurationError: when C{text} is none of these.
    """
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif text.startswith("[") and text.endswith("]") and defaultPort is not None:
        return text[1:-1], defaultPort
    elif not colon or ":" in host:
        if defaultPort is None or not text:
            raise ConfigurationError(f"expected HOST:PORT, not {text!r}")
        return text, defaultPort
    # Not isdigit(), which takes the digits of all the world's scripts.
    if not host or re.fullmatch(r"[0-9]{1,5}", port) is None or not 0 < int(port) < 65536:
        raise ConfigurationError(f"expected HOST:PORT with a port from 1 to 65535, not {text!r}")
    return host, int(port)
