"""
The kinds of NAT that the lab builds, as data: what each does, in RFC words.
"""

from __future__ import annotations

import enum
from types import MappingProxyType
from typing import Final

import attrs

from punchd.values.nat import Filtering, Mapping, Unsolicited


class Allocation(enum.Enum):
    """
    How a NAT chooses the outside port of a new mapping.
    """

    PRESERVING = "preserving"
    """The inside port itself."""

    SHIFTED = "shifted"
    """Another port, always the same one for the same inside port."""

    COUNTING = "counting"
    """The last one given out, plus one."""

    BY_ADDRESS = "by-address"
    """Another port for every remote address, the same one each time."""

    RANDOM = "random"
    """Any free port, for every connection anew."""


@attrs.frozen
class NatKind:
    """
    What stands between a host and the public network.

    @ivar name: The word by which L{NatLab.addHost
        <punchd.testing.natlab.lab.NatLab.addHost>} knows it.
    @ivar title: Its name in tables for people.
    @ivar unsolicited: The answer to a SYN that nobody asked for.
    @ivar natted: Whether addresses are translated at all.
    @ivar ports: From which, and up to which, a random NAT chooses outside ports.
    @ivar layers: The names of the kinds of several routers in a row, from the
        host outwards; empty if there is one router, of this kind.
    """

    name: str
    title: str
    mapping: Mapping
    filtering: Filtering
    unsolicited: Unsolicited = Unsolicited.DROP
    natted: bool = True
    allocation: Allocation = Allocation.PRESERVING
    ports: tuple[int, int] = (20000, 60000)
    layers: tuple[str, ...] = ()

    @property
    def symmetric(self) -> bool:
        """
        Whether the outside port depends on the destination, so that what one
        server saw is not where another peer must dial.
        """
        return self.mapping is not Mapping.ENDPOINT_INDEPENDENT


def _portRestricted(
    name: str,
    title: str,
    *,
    unsolicited: Unsolicited = Unsolicited.DROP,
    allocation: Allocation = Allocation.PRESERVING,
    layers: tuple[str, ...] = (),
) -> NatKind:
    """
    One of the variations on the most common kind: EIM/APDF.
    """
    return NatKind(
        name,
        title,
        Mapping.ENDPOINT_INDEPENDENT,
        Filtering.ADDRESS_AND_PORT_DEPENDENT,
        unsolicited=unsolicited,
        allocation=allocation,
        layers=layers,
    )


_ALL = (
    # The kernel of a host without a firewall resets what finds no listener.
    NatKind(
        "public",
        "public address",
        Mapping.ENDPOINT_INDEPENDENT,
        Filtering.ENDPOINT_INDEPENDENT,
        unsolicited=Unsolicited.RESET,
        natted=False,
    ),
    NatKind(
        "firewall",
        "firewall",
        Mapping.ENDPOINT_INDEPENDENT,
        Filtering.ADDRESS_AND_PORT_DEPENDENT,
        natted=False,
    ),
    NatKind("full-cone", "full cone", Mapping.ENDPOINT_INDEPENDENT, Filtering.ENDPOINT_INDEPENDENT),
    NatKind(
        "restricted", "restricted cone", Mapping.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_DEPENDENT
    ),
    _portRestricted("port-restricted", "port-restricted cone"),
    _portRestricted("shifted", "port-restricted, other port", allocation=Allocation.SHIFTED),
    _portRestricted("reset", "port-restricted, resets", unsolicited=Unsolicited.RESET),
    _portRestricted("icmp", "port-restricted, ICMP", unsolicited=Unsolicited.ICMP),
    _portRestricted(
        "carrier",
        "carrier (two NATs)",
        allocation=Allocation.SHIFTED,
        layers=("port-restricted", "shifted"),
    ),
    NatKind(
        "counting",
        "symmetric, counting",
        Mapping.ADDRESS_AND_PORT_DEPENDENT,
        Filtering.ADDRESS_AND_PORT_DEPENDENT,
        allocation=Allocation.COUNTING,
    ),
    NatKind(
        "by-address",
        "symmetric, by address",
        Mapping.ADDRESS_DEPENDENT,
        Filtering.ADDRESS_AND_PORT_DEPENDENT,
        allocation=Allocation.BY_ADDRESS,
    ),
    NatKind(
        "random",
        "symmetric, random",
        Mapping.ADDRESS_AND_PORT_DEPENDENT,
        Filtering.ADDRESS_AND_PORT_DEPENDENT,
        allocation=Allocation.RANDOM,
    ),
)

KINDS: Final = MappingProxyType({kind.name: kind for kind in _ALL})
"""Every kind by its name, from the most open to the most closed."""

RANDOM_WIDE: Final = attrs.evolve(
    KINDS["random"], name="random-wide", title="symmetric, random, all ports", ports=(1024, 65535)
)
"""The hardest one to guess: no port is likelier than another."""
