"""
Addresses for tests.
"""

from hypothesis import strategies as st

from punchd.values.addresses import makeAddress

#: Any address of a TCP port, of either family.
ADDRESSES = st.builds(
    makeAddress,
    st.ip_addresses().map(str),
    st.integers(0, 65535),
)
