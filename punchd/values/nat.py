"""
What a NAT does, in the words of RFC 4787 and RFC 5382.
"""

from __future__ import annotations

from enum import Enum

from attrs import frozen


class Mapping(Enum):
    """
    For which remote addresses a NAT gives an inside port the same outside port (RFC 4787, 4.1).
    """

    ENDPOINT_INDEPENDENT = "EIM"
    ADDRESS_DEPENDENT = "ADM"
    ADDRESS_AND_PORT_DEPENDENT = "APDM"


class Filtering(Enum):
    """
    Whom a NAT or firewall lets in on a mapping (RFC 4787, 5).
    """

    ENDPOINT_INDEPENDENT = "EIF"
    ADDRESS_DEPENDENT = "ADF"
    ADDRESS_AND_PORT_DEPENDENT = "APDF"


class Unsolicited(Enum):
    """
    What answers a SYN that the filter does not let in (RFC 5382, 4.3 asks for silence).
    """

    DROP = "drop"
    RESET = "reset"
    ICMP = "icmp"


class Allocation(Enum):
    """
    Which outside port a NAT gives to a new mapping (RFC 4787, 4.2; RFC 7857, 3).
    """

    PRESERVING = "preserving"
    """The inside port itself, where it is free."""

    COUNTING = "counting"
    """A fixed number of ports after the mapping before."""

    RANDOM = "random"
    """One that nobody can tell beforehand."""


@frozen
class NatBehaviour:
    """
    What stands in front of a peer does, as far as is known: what a plan depends on.

    C{None} is what nobody knows yet, and may be anything.

    @ivar delta: of a counting NAT: the ports from one mapping to the next; else 0.
    @ivar fromOneAddress: whether the server has looked from one address only, so that
        C{ENDPOINT_INDEPENDENT} mapping may be address-dependent, and C{ADDRESS_DEPENDENT} filtering
        endpoint-independent.
    """

    mapping: Mapping | None = None
    filtering: Filtering | None = None
    unsolicited: Unsolicited | None = None
    allocation: Allocation | None = None
    delta: int = 0
    fromOneAddress: bool = False

    @property
    def isSymmetric(self) -> bool:
        """
        Whether each remote is shown another port than the server saw.
        """
        return self.mapping not in (None, Mapping.ENDPOINT_INDEPENDENT)

    @property
    def isPredictable(self) -> bool:
        """
        Whether the next mapping's port can be told from the one before.
        """
        return self.allocation is Allocation.COUNTING and self.delta != 0

    @property
    def isOpen(self) -> bool:
        """
        Whether anybody may dial the address that the server observed.
        """
        return not self.isSymmetric and self.filtering is Filtering.ENDPOINT_INDEPENDENT

    @property
    def filtersPorts(self) -> bool:
        """
        Whether nobody comes in from a port that was not dialled before.
        """
        return self.filtering is Filtering.ADDRESS_AND_PORT_DEPENDENT

    @property
    def kind(self) -> str:
        """
        The behaviour as one word, for telling kinds of NAT apart.
        """
        words = [
            "?" if one is None else one.value
            for one in (self.mapping, self.filtering, self.unsolicited, self.allocation)
        ]
        return "/".join(words)


#: Of a peer that does not know yet what stands in front of it.
UNKNOWN = NatBehaviour()
