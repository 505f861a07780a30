"""
What a NAT does, in the words of RFC 4787 and RFC 5382.
"""

from __future__ import annotations

from enum import Enum


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
