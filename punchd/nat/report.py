"""
What was found out about what stands between this host and the public network.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen

from punchd.values.nat import Allocation, Filtering, Mapping, NatBehaviour, Unsolicited

_TYPES = {
    (Mapping.ENDPOINT_INDEPENDENT, Filtering.ENDPOINT_INDEPENDENT): "full cone",
    (Mapping.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_DEPENDENT): "restricted cone",
    (Mapping.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT): "port-restricted cone",
}

_SYMMETRIC = (Mapping.ADDRESS_DEPENDENT, Mapping.ADDRESS_AND_PORT_DEPENDENT)

_UNSOLICITED = {
    Unsolicited.DROP: "drops what nobody asked for",
    Unsolicited.RESET: "resets what nobody asked for",
    Unsolicited.ICMP: "answers what nobody asked for by ICMP",
}


@frozen
class NatReport:
    """
    One discovery's result. C{None} is what is not known.

    @ivar address: the host under which the server sees this one.
    @ivar translated: whether that is another one than this host's own.
    @ivar delta: as in L{NatBehaviour<punchd.values.nat.NatBehaviour>}, and so is C{fromOneAddress}.
    @ivar hairpin: whether this host reaches its own address on the outside.
    @ivar doubleNat: whether there are signs of a second NAT behind the first.
    @ivar routers: the routers on the way to the server that have given their addresses, the nearest
        first.
    @ivar before: the address at the discovery before this one, if there was one.
    @ivar unclear: what could not be told apart, and with what that would be possible.
    @ivar contradictions: observations that do not go together.
    @ivar isComplete: whether all has been looked at that is going to be.
    """

    address: str | None = None
    translated: bool | None = None
    mapping: Mapping | None = None
    filtering: Filtering | None = None
    unsolicited: Unsolicited | None = None
    allocation: Allocation | None = None
    delta: int = 0
    hairpin: bool | None = None
    doubleNat: bool | None = None
    routers: tuple[str, ...] = ()
    before: str | None = None
    fromOneAddress: bool = False
    unclear: tuple[str, ...] = ()
    contradictions: tuple[str, ...] = ()
    isComplete: bool = False

    @property
    def preserving(self) -> bool | None:
        """
        Whether a mapping has the port that it has inside.
        """
        return None if self.allocation is None else self.allocation is Allocation.PRESERVING

    @property
    def changed(self) -> bool | None:
        """
        Whether the address is another one than it was.
        """
        if self.before is None or self.address is None:
            return None
        return self.before != self.address

    @property
    def behaviour(self) -> NatBehaviour:
        """
        What goes into offers.
        """
        return NatBehaviour(
            mapping=self.mapping,
            filtering=self.filtering,
            unsolicited=self.unsolicited,
            allocation=self.allocation,
            delta=self.delta,
            fromOneAddress=self.fromOneAddress,
        )

    @property
    def type(self) -> str:
        """
        What it is, in a few words.
        """
        if self.translated is None:
            return "not yet known"
        if not self.translated:
            if self.filtering is Filtering.ENDPOINT_INDEPENDENT:
                return "no NAT"
            if self.filtering is Filtering.ADDRESS_AND_PORT_DEPENDENT:
                return "no NAT, but a firewall"
            return "no NAT, perhaps a firewall"
        if self.mapping in _SYMMETRIC:
            return "symmetric"
        if self.mapping is None:
            return "NAT"
        if self.filtering is None:
            return "cone"
        return _TYPES[self.mapping, self.filtering]

    def line(self) -> str:
        """
        The report in one line.
        """
        words = f"{_valueOf(self.mapping) or '?'}/{_valueOf(self.filtering) or '?'}"
        parts = [f"{self.type} ({words})"]
        if self.translated and self.allocation is not None:
            parts.append(self._ports())
        if self.unsolicited is not None:
            parts.append(_UNSOLICITED[self.unsolicited])
        if self.hairpin is not None:
            parts.append("hairpins" if self.hairpin else "does not hairpin")
        if self.doubleNat:
            parts.append("behind a second NAT")
        if self.address is not None:
            parts.append(f"seen as {self.address}")
        if self.changed:
            parts.append(f"before as {self.before}")
        if self.contradictions:
            parts.append("with contradictions")
        if not self.isComplete:
            parts.append("still looking")
        return ", ".join(parts)

    def _ports(self) -> str:
        if self.allocation is Allocation.PRESERVING:
            return "keeps ports"
        if self.allocation is Allocation.COUNTING:
            return f"counts ports in steps of {self.delta}"
        return "other ports"

    def toJSON(self) -> dict[str, Any]:
        """
        As C{punchd nat --json} shows it.
        """
        return {
            "line": self.line(),
            "address": self.address,
            "changed": self.changed,
            "translated": self.translated,
            "mapping": _valueOf(self.mapping),
            "filtering": _valueOf(self.filtering),
            "unsolicited": _valueOf(self.unsolicited),
            "preserving": self.preserving,
            "allocation": _valueOf(self.allocation),
            "delta": self.delta if self.allocation is Allocation.COUNTING else None,
            "hairpin": self.hairpin,
            "doubleNat": self.doubleNat,
            "routers": list(self.routers),
            "fromOneAddress": self.fromOneAddress,
            "unclear": list(self.unclear),
            "contradictions": list(self.contradictions),
            "complete": self.isComplete,
        }


def _valueOf(word: Mapping | Filtering | Unsolicited | Allocation | None) -> str | None:
    return None if word is None else word.value
