"""
A NAT lab: real NATs of the Linux kernel, of every kind, at real distances.

It needs root on Linux, the programs C{ip} and C{nft}, and C{/dev/net/tun};
L{requirements} says what is missing.  It knows nothing of punchd::

    with NatLab(delay=0.025) as lab:
        server = lab.addPublic("server")
        alice = lab.addHost("alice", "port-restricted")
        listening = server.popen(["nc", "-l", "7000"])
        alice.run(["nc", "-z", server.address, "7000"])
"""

from punchd.testing.natlab.hosts import Host, Router, Site
from punchd.testing.natlab.kinds import KINDS, Allocation, NatKind
from punchd.testing.natlab.lab import NatLab
from punchd.testing.natlab.namespaces import LabError
from punchd.testing.natlab.requirements import LabUnavailable, Missing, requirements

__all__ = [
    "KINDS",
    "Allocation",
    "Host",
    "LabError",
    "LabUnavailable",
    "Missing",
    "NatKind",
    "NatLab",
    "Router",
    "Site",
    "requirements",
]
