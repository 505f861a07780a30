"""
The versions of punchd's protocols, and what is said to an end that speaks none of them.
"""

from __future__ import annotations

from punchd.errors import IncompatibleVersions

#: TLS application protocols (RFC 7301).
MASTER_ALPN = b"punchd-master/1"
LINK_ALPN = b"punchd-link/2"

#: The version of the master service's commands, and the oldest one still understood.
MASTER_VERSION = 1
OLDEST_MASTER_VERSION = 1

#: The version of the preamble on punched connections.
PREAMBLE_VERSION = 1

#: The version of the assist service's question and answer.
ASSIST_VERSION = 1

#: The version of what is said to the relay.
RELAY_VERSION = 1

#: The version of the challenge at a leased address.
PROOF_VERSION = 1


def commonMasterVersion(version: int, oldest: int) -> int:
    """
    The newest version that both ends speak.

    @param version: the newest that the other end speaks.
    @param oldest: the oldest that the other end speaks.
    @raise IncompatibleVersions: naming both ranges.
    """
    common = min(version, MASTER_VERSION)
    if common < max(oldest, OLDEST_MASTER_VERSION) or oldest > version:
        raise IncompatibleVersions(
            f"this end speaks versions {OLDEST_MASTER_VERSION} to {MASTER_VERSION} of the master "
            f"protocol, the other {oldest} to {version}: update the older one"
        )
    return common


def checkVersion(what: str, theirs: int, ours: int) -> None:
    """
    @raise IncompatibleVersions: naming both, when they differ.
    """
    if theirs != ours:
        raise IncompatibleVersions(
            f"the other end speaks version {theirs} of the {what}, this one version {ours}: "
            "update the older one"
        )
