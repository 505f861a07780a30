"""
Ways of asking a router for a port, best first: PCP, NAT-PMP, UPnP-IGD.
"""
