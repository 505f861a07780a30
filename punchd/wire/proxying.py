"""
The PROXY protocol of HAProxy (doc/proxy-protocol.txt there), as who speaks it first: what a service
is told of who comes, before anything else on the connection.
"""

from __future__ import annotations

from enum import Enum
from ipaddress import IPv4Address as IPv4
from ipaddress import IPv6Address as IPv6
from ipaddress import ip_address

from punchd.values.addresses import Ends
from punchd.values.peers import PeerAddress

#: Types of what version 2 carries beside the addresses, from the range that the protocol leaves to
#: applications (section 2.2.8): the peer ID as 64 hexadecimal digits, and the name of its pin.
PEER_ID = 0xE0
PEER_NAME = 0xE1

# Section 2.2: what version 2 begins with; the version and a command; address families, with TCP, or
# neither. The command LOCAL says that there are no addresses but the connection's own: HAProxy does
# not take the command PROXY without any.
_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_LOCAL = 0x20
_PROXY = 0x21
_TCP4 = 0x11
_TCP6 = 0x21
_UNSPECIFIED = 0x00

_MAPPED = bytes(10) + b"\xff\xff"


class ProxyVersion(Enum):
    """
    Which of the two forms; the value is what people write.
    """

    TEXT = "proxy-v1"
    BINARY = "proxy-v2"

    def pack(self, ends: Ends | None, caller: PeerAddress | None) -> bytes:
        """
        The header. Of the caller, only version 2 tells.

        @param ends: C{None} where they are not known.
        @param caller: C{None} where it is no peer.
        """
        hosts = None if ends is None else _hostsOf(ends)
        if self is ProxyVersion.TEXT:
            return _packText(ends, hosts)
        return _packBinary(ends, hosts, caller)


_Hosts = tuple[IPv4, IPv4] | tuple[IPv6, IPv6]


def _hostsOf(ends: Ends) -> _Hosts:
    """
    Both hosts, in one family: there is only one place for it.
    """
    there, here = ip_address(ends.there.host), ip_address(ends.here.host)
    if isinstance(there, IPv4) and isinstance(here, IPv4):
        return there, here
    # The scope of an address says nothing beyond this host, so it is left behind.
    return _sixth(there), _sixth(here)


def _sixth(host: IPv4 | IPv6) -> IPv6:
    return IPv6(host.packed if isinstance(host, IPv6) else _MAPPED + host.packed)


def _packText(ends: Ends | None, hosts: _Hosts | None) -> bytes:
    if ends is None or hosts is None:
        return b"PROXY UNKNOWN\r\n"
    family = f"TCP{hosts[0].version}"
    there, here = map(_textOf, hosts)
    return f"PROXY {family} {there} {here} {ends.there.port} {ends.here.port}\r\n".encode("ascii")


def _textOf(host: IPv4 | IPv6) -> str:
    if isinstance(host, IPv6) and host.ipv4_mapped is not None:
        # Python may write a part of it as IPv4, which the protocol does not know (section 2.1).
        number = int(host.ipv4_mapped)
        return f"::ffff:{number >> 16:x}:{number & 0xFFFF:x}"
    return str(host)


def _packBinary(ends: Ends | None, hosts: _Hosts | None, caller: PeerAddress | None) -> bytes:
    command, family, body = _LOCAL, _UNSPECIFIED, b""
    if ends is not None and hosts is not None:
        command, family = _PROXY, _TCP4 if hosts[0].version == 4 else _TCP6
        body = hosts[0].packed + hosts[1].packed
        body += b"".join(end.port.to_bytes(2, "big") for end in (ends.there, ends.here))
    if caller is not None:
        body += _field(PEER_ID, str(caller.peerID)) + _field(PEER_NAME, caller.name)
    return _SIGNATURE + bytes([command, family]) + len(body).to_bytes(2, "big") + body


def _field(kind: int, text: str) -> bytes:
    value = text.encode("ascii")
    return bytes([kind]) + len(value).to_bytes(2, "big") + value
