"""
Bytes to values and back: no sockets, no timers. C{docs/reference/wire.rst} describes every byte.
"""
