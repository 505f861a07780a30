"""
The addresses of this host, as its kernel knows them; nothing is sent for that.
"""

from __future__ import annotations

import array
import fcntl
import socket
import struct
import sys

from punchd.values.addresses import Address, makeAddress

# From linux/sockios.h and linux/if.h, which the standard library does not carry.
_SIOCGIFCONF = 0x8912
_SIOCGIFFLAGS = 0x8913
_IFF_UP = 0x1

# struct ifreq: an interface's name, and a union whose largest member is a struct ifmap.
_NAME_LENGTH = 16
_ENTRY = struct.Struct("16s24s" if sys.maxsize > 2**32 else "16s16s")
# In it, after family and port: an IPv4 address.
_ADDRESS = slice(4, 8)

# Interfaces of a host with many containers; what is beyond is left out.
_MOST_ENTRIES = 256


def ownAddresses() -> list[str]:
    """
    The IPv4 addresses of all interfaces that are up, in the kernel's order. Empty where the system
    does not tell.
    """
    if not sys.platform.startswith("linux"):
        return []
    room = array.array("B", bytes(_ENTRY.size * _MOST_ENTRIES))
    where, length = room.buffer_info()
    found = []
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            told = fcntl.ioctl(asking, _SIOCGIFCONF, struct.pack("iL", length, where))
            (used,) = struct.unpack_from("i", told)
            for name, union in _ENTRY.iter_unpack(room.tobytes()[: used - used % _ENTRY.size]):
                if _isUp(asking, name):
                    found.append(socket.inet_ntoa(union[_ADDRESS]))
    except OSError:
        return []
    return list(dict.fromkeys(found))


def _isUp(asking: socket.socket, name: bytes) -> bool:
    # An address of its own that an interface has beside the first may come as `eth0:1`.
    device = name.rstrip(b"\0").partition(b":")[0]
    try:
        told = fcntl.ioctl(asking, _SIOCGIFFLAGS, _ENTRY.pack(device, b""))
    except OSError:
        return False
    (flags,) = struct.unpack_from("H", told, _NAME_LENGTH)
    return bool(flags & _IFF_UP)


def sourceToward(remote: Address) -> str | None:
    """
    The address that this host's connections to C{remote} come from now; C{None} where no route
    leads.
    """
    family = socket.AF_INET6 if ":" in remote.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            # Of a datagram socket, this only looks the route up.
            asking.connect((remote.host, remote.port))
            host: str = asking.getsockname()[0]
    except OSError:
        return None
    return makeAddress(host.partition("%")[0], 0).host
