"""
Situations for hypothesis: whatever two peers may say of themselves, likely or not.
"""

from __future__ import annotations

from hypothesis import strategies as st

from punchd.values.addresses import Address, makeAddress
from punchd.values.nat import Allocation, Filtering, Mapping, NatBehaviour, Unsolicited
from punchd.values.parties import Offer, Party, Situation

_PORTS = st.integers(1, 65535)


def _addresses(*hosts: str) -> st.SearchStrategy[Address]:
    return st.builds(makeAddress, st.sampled_from(hosts), _PORTS)


#: As a server sees peers: few hosts, so that two peers often share one.
REFLEXIVE = _addresses("198.51.100.1", "203.0.113.2", "192.168.1.10", "2001:db8:1::2")

#: As peers see themselves.
HOSTS = _addresses("192.168.1.10", "192.168.1.20", "10.0.0.3", "198.51.100.1", "fd00::1")

IPV6 = _addresses("2001:db8:1::2", "2001:db8:2::2")

#: Everything that a peer may say of its NAT.
BEHAVIOURS = st.builds(
    NatBehaviour,
    st.none() | st.sampled_from(Mapping),
    st.none() | st.sampled_from(Filtering),
    st.none() | st.sampled_from(Unsolicited),
    st.none() | st.sampled_from(Allocation),
    st.integers(-256, 256),
    st.booleans(),
)


def situations(name: str, version: int) -> st.SearchStrategy[Situation]:
    """
    Situations in which both peers have a strategy of this name and version.
    """
    offers = st.builds(
        Offer,
        nat=BEHAVIOURS,
        hosts=st.lists(HOSTS, max_size=8).map(tuple),
        strategies=st.just(((name, version),)),
        mapped=st.lists(REFLEXIVE, max_size=2).map(tuple),
        ipv6=st.none() | IPV6,
    )
    parties = st.builds(Party, REFLEXIVE, offers)
    return st.builds(Situation, parties, parties)
