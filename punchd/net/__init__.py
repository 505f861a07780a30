"""
Sockets: ports that are held and reused, races on them, and bytes from one to the other.
"""
