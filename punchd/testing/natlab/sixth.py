"""
IPv6 in a lab: for the sites that ask for it, beside the IPv4 that all have.

Every host has a global address, and nothing is translated. The router of a site is
a stateful firewall, as most are (RFC 6092): it lets in what was asked for from
inside, and treats the rest as its kind treats strangers.

Addresses are those of RFC 3849 (C{2001:db8::/32}), which programs take for global ones.
"""

from __future__ import annotations

from collections.abc import Sequence

from punchd.testing.natlab.hosts import Site
from punchd.testing.natlab.kinds import NatKind
from punchd.testing.natlab.namespaces import ip, tool
from punchd.testing.natlab.rules import LAN, WAN
from punchd.values.nat import Unsolicited

# Addresses on a LAN begin here: below are the router, and what people add by hand.
_FIRST_HOST = 0x10


def linkAddress(site: Site, number: int) -> str:
    """
    An address on the link between a site and the core, which has the first.
    """
    return f"2001:db8:0:{site.number:x}::{number:x}"


def lanAddress(site: Site, number: int) -> str:
    """
    An address on the LAN of a site, where the router has the first.
    """
    return f"2001:db8:1:{site.number:x}::{number:x}"


def nets(site: Site) -> tuple[str, str]:
    """
    All that is there.
    """
    return f"{linkAddress(site, 0)}/64", f"{lanAddress(site, 0)}/64"


def hostAddress(site: Site, number: int) -> str:
    """
    The address of a host on the LAN of a site, counted from 0.
    """
    return lanAddress(site, _FIRST_HOST + number)


def awaken(namespace: str, devices: Sequence[str], forwards: bool = False) -> None:
    """
    Let devices speak IPv6, which nothing does in a lab by itself.
    """
    settings = {"conf/all/forwarding": "1", "icmp/ratelimit": "0"} if forwards else {}
    for device in devices:
        # Addresses are used at once; whether somebody else has them need not be found out.
        settings |= {f"conf/{device}/accept_dad": "0", f"conf/{device}/disable_ipv6": "0"}
    tool(
        namespace,
        ["sh", "-e"],
        "".join(f"echo {value} >/proc/sys/net/ipv6/{name}\n" for name, value in settings.items()),
    )


def beginCore(core: str, wire: str | None, table: int) -> None:
    """
    Make the core a router of IPv6.

    @param wire: the device that delays packets, if there is one.
    @param table: the number of its routing table.
    """
    awaken(core, [], forwards=True)
    ip(["route add blackhole default"], core, family=6)
    if wire is not None:
        # The device has nothing to say itself, so it shall have no address.
        ip([f"link set {wire} addrgenmode none"], core)
        awaken(core, [wire])
        ip(
            [
                f"rule add pref 10 iif {wire} lookup main",
                f"rule add pref 20 not iif lo lookup {table}",
                f"route add default dev {wire} table {table}",
            ],
            core,
            family=6,
        )


def linkCore(site: Site) -> None:
    """
    Give the core's end of a link its address.
    """
    awaken(site.core, [site.device])
    ip(
        [
            f"addr add {linkAddress(site, 1)}/64 dev {site.device} nodad",
            f"route add {nets(site)[1]} via {linkAddress(site, 2)}",
        ],
        site.core,
        family=6,
    )


def joinPublic(site: Site, namespace: str) -> str:
    """
    Give a public host an address.
    """
    return _join(namespace, "eth0", linkAddress(site, 2), linkAddress(site, 1))


def joinLan(site: Site, namespace: str, number: int) -> str:
    """
    Give the host with that number on a LAN an address.
    """
    return _join(namespace, "eth0", hostAddress(site, number), lanAddress(site, 1))


def joinRouter(site: Site, namespace: str, kind: NatKind) -> str:
    """
    Make the router of a site one of IPv6, too.

    @return: its address on the link to the core.
    """
    awaken(namespace, [LAN], forwards=True)
    address = _join(namespace, WAN, linkAddress(site, 2), linkAddress(site, 1))
    ip([f"addr add {lanAddress(site, 1)}/64 dev {LAN} nodad"], namespace, family=6)
    tool(namespace, ["nft", "-f", "-"], firewall(kind))
    return address


def _join(namespace: str, device: str, address: str, gateway: str) -> str:
    awaken(namespace, [device])
    ip(
        [f"addr add {address}/64 dev {device} nodad", f"route add default via {gateway}"],
        namespace,
        family=6,
    )
    return address


def firewall(kind: NatKind) -> str:
    """
    The input of C{nft -f} for a router that only lets answers in.
    """
    refusal = {
        Unsolicited.DROP: "drop",
        Unsolicited.RESET: "meta l4proto tcp reject with tcp reset",
        Unsolicited.ICMP: "reject with icmpv6 port-unreachable",
    }[kind.unsolicited]
    neighbours = "{ nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert }"
    return f"""table ip6 firewall {{
chain forward {{ type filter hook forward priority filter;
iifname != "{WAN}" accept
ct state established,related accept
{refusal}
drop
}}
chain input {{ type filter hook input priority filter;
iifname != "{WAN}" accept
ct state established,related accept
icmpv6 type {neighbours} accept
{refusal}
drop
}}
}}
"""
