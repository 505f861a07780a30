"""
The nftables rules that make a Linux router behave like a given kind of NAT.

Linux by itself is a port-preserving EIM/APDF NAT; every other kind is that plus
a rule about the outside port (postrouting) or about who may come in
(prerouting and forward).  Each rule set here is measured by the lab's tests.
"""

from __future__ import annotations

import random

from punchd.testing.natlab.kinds import Allocation, NatKind
from punchd.values.nat import Filtering, Unsolicited

WAN = "wan"
"""The router's interface toward the public network."""

LAN = "lan"
"""The router's interface toward its hosts."""

_SHIFT = 0x1A5B
# A shifted port is the inside port with these bits flipped.  It is a bijection:
# unlike with a hash, no two flows of a host can ever want the same outside
# port, which Linux would resolve by losing one of them or breaking EIM.  Bit 15
# stays, so ephemeral ports (32768 and up) never land on well-known ones.

_BUCKETS = 256
# A by-address NAT flips other bits for every remote address, which it hashes to
# one of this many patterns.  Two remotes share one with a chance of 1 : 256, but
# the seed is fixed, so a lab with the same addresses always behaves alike.

_COUNT_FIRST = 20000
_COUNT_PORTS = 8192
# The counting NAT wraps after this many mappings.  Enough for thousands of
# attempts before a port comes again; larger maps take long to load (about 4 us
# per port).

_TURNED = 1  # the mark of packets that a router turns back inside


def _snat(kind: NatKind, outside: str) -> list[str]:
    """
    The postrouting rules that choose the outside port of a TCP connection.
    """
    tcp = f'oifname "{WAN}" meta l4proto tcp'
    match kind.allocation:
        case Allocation.PRESERVING:
            return []
        case Allocation.SHIFTED:
            return [f"{tcp} snat to {outside} : tcp sport ^ {_SHIFT}"]
        case Allocation.COUNTING:
            ports = ", ".join(f"{n} : {_COUNT_FIRST + n}" for n in range(_COUNT_PORTS))
            return [f"{tcp} snat to {outside} : numgen inc mod {_COUNT_PORTS} map {{ {ports} }}"]
        case Allocation.BY_ADDRESS:
            jumps = ", ".join(f"{n} : goto remote{n}" for n in range(_BUCKETS))
            return [f"{tcp} jhash ip daddr mod {_BUCKETS} seed 7761 vmap {{ {jumps} }}"]
        case Allocation.RANDOM:
            first, last = kind.ports
            return [f"{tcp} snat to {outside}:{first}-{last} fully-random"]


def _byAddressChains(outside: str) -> list[str]:
    """
    One chain for each pattern of flipped bits.
    """
    patterns = random.Random(7761).sample(range(1, 0x8000), _BUCKETS)
    return [
        f"chain remote{n} {{ meta l4proto tcp snat to {outside} : tcp sport ^ {pattern}; }}"
        for n, pattern in enumerate(patterns)
    ]


def _refusal(unsolicited: Unsolicited) -> str:
    """
    The verdict on what comes from outside unasked.
    """
    match unsolicited:
        case Unsolicited.DROP:
            return "drop"
        case Unsolicited.RESET:
            return "meta l4proto tcp counter reject with tcp reset"
        case Unsolicited.ICMP:
            return "counter reject with icmp port-unreachable"


def _cone(filtering: Filtering) -> tuple[list[str], list[str], list[str]]:
    """
    What lets strangers in to an existing mapping: the sets that remember the
    mappings, the postrouting rules that fill them and the prerouting rules
    that use them.
    """
    # An hour is longer than any test; a refresh happens with each connection.
    remembered = "flags dynamic,timeout; timeout 1h; size 65535;"
    tcpOut = f'oifname "{WAN}" meta l4proto tcp'
    tcpIn = f'iifname "{WAN}" meta l4proto tcp'
    sets = [f"map inside {{ type inet_service : ipv4_addr . inet_service; {remembered} }}"]
    fill = [f"{tcpOut} update @inside {{ tcp sport : ip saddr . tcp sport }}"]
    admitted = ""
    match filtering:
        case Filtering.ADDRESS_AND_PORT_DEPENDENT:
            return [], [], []
        case Filtering.ADDRESS_DEPENDENT:
            sets.append(f"set seen {{ type inet_service . ipv4_addr; {remembered} }}")
            fill.append(f"{tcpOut} update @seen {{ tcp sport . ip daddr }}")
            admitted = " tcp dport . ip saddr @seen"
        case Filtering.ENDPOINT_INDEPENDENT:
            pass
    return sets, fill, [f"{tcpIn}{admitted} dnat ip to tcp dport map @inside"]


def _hairpin(kind: NatKind, outside: str) -> tuple[list[str], list[str], list[str]]:
    """
    What brings connections from inside to a mapped address back inside, under
    the mapped address of whoever dials (RFC 5382, REQ-8): as L{_cone}, with the
    postrouting rules that translate.
    """
    remembered = "flags dynamic,timeout; timeout 1h; size 65535;"
    port = "tcp sport" if kind.allocation is Allocation.PRESERVING else f"tcp sport ^ {_SHIFT}"
    tcp = "meta l4proto tcp"
    # Marked on its way in, as other packets leave by the LAN, too.
    back = f'oifname "{LAN}" meta mark {_TURNED} {tcp}'
    return (
        [f"map mapped {{ type inet_service : ipv4_addr . inet_service; {remembered} }}"],
        [
            f'oifname "{WAN}" {tcp} update @mapped {{ {port} : ip saddr . tcp sport }}',
            f"{back} update @mapped {{ {port} : ip saddr . tcp sport }}",
            f"{back} snat to {outside}" + ("" if port == "tcp sport" else f" : {port}"),
        ],
        [
            f'iifname "{LAN}" ip daddr {outside} {tcp} meta mark set {_TURNED}'
            " dnat ip to tcp dport map @mapped"
        ],
    )


def ruleset(kind: NatKind, outside: str, *, hairpins: bool = False) -> str:
    """
    The input of C{nft -f} for one router.

    @param kind: A kind of one layer.
    @param outside: The router's address on its outer link.
    @param hairpins: Whether hosts behind it reach each other at their mapped
        addresses.
    """
    if hairpins and (not kind.natted or kind.symmetric):
        raise ValueError(f"{kind.name}: there is no mapped address for others to dial")
    refusal = _refusal(kind.unsolicited)
    lines: list[str] = []
    if kind.natted:
        sets, fill, admit = _cone(kind.filtering)
        if hairpins:
            more = _hairpin(kind, outside)
            sets, fill, admit = (
                one + two for one, two in zip((sets, fill, admit), more, strict=True)
            )
        lines += sets
        if kind.allocation is Allocation.BY_ADDRESS:
            lines += _byAddressChains(outside)
        lines += [
            "chain prerouting { type nat hook prerouting priority dstnat;",
            *admit,
            "}",
            "chain postrouting { type nat hook postrouting priority srcnat;",
            *fill,
            *_snat(kind, outside),
            f'oifname "{WAN}" snat to {outside}',
            "}",
        ]
    lines += [
        "chain forward { type filter hook forward priority filter;",
        f'iifname != "{WAN}" accept',
        "ct state established,related accept",
        "ct status dnat accept",
        refusal,
        "drop",
        "}",
        "chain input { type filter hook input priority filter;",
        f'iifname != "{WAN}" accept',
        "ct state established,related accept",
        refusal,
        "drop",
        "}",
    ]
    return "table ip nat_kind {\n" + "\n".join(lines) + "\n}\n"
