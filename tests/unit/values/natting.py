"""
NAT behaviours for hypothesis, and some that have names.
"""

from hypothesis import strategies as st

from punchd.values.nat import Allocation, Filtering, Mapping, NatBehaviour, Unsolicited

NATS = st.builds(
    NatBehaviour,
    st.none() | st.sampled_from(Mapping),
    st.none() | st.sampled_from(Filtering),
    st.none() | st.sampled_from(Unsolicited),
    st.none() | st.sampled_from(Allocation),
    st.integers(-256, 256),
    st.booleans(),
)

OPEN = NatBehaviour(Mapping.ENDPOINT_INDEPENDENT, Filtering.ENDPOINT_INDEPENDENT)
RESTRICTED = NatBehaviour(Mapping.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_DEPENDENT)
PORT_RESTRICTED = NatBehaviour(Mapping.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT)
RANDOM = NatBehaviour(
    Mapping.ADDRESS_AND_PORT_DEPENDENT,
    Filtering.ADDRESS_AND_PORT_DEPENDENT,
    allocation=Allocation.RANDOM,
)
COUNTING = NatBehaviour(
    Mapping.ADDRESS_AND_PORT_DEPENDENT,
    Filtering.ADDRESS_AND_PORT_DEPENDENT,
    allocation=Allocation.COUNTING,
    delta=1,
)
BY_ADDRESS = NatBehaviour(
    Mapping.ADDRESS_DEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT, allocation=Allocation.RANDOM
)
