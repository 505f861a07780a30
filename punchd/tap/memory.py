"""
How this process gives memory back to the system.
"""

from __future__ import annotations

import ctypes

#: Bytes of one piece from which on the system is asked for it alone, and free bytes at the end of
#: the heap from which on they are given back.
ALONE = 1024 * 1024
GIVEN_BACK = 8 * 1024 * 1024

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keepFreedMemory() -> None:
    """
    Keep a few megabytes that were freed. A busy stream frees each moment what it needs again in the
    next; to get it from the system each time costs the sender a twentieth of its time, for pages
    that come cleared. Other systems' malloc stays as it is.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_M_MMAP_THRESHOLD, ALONE)
    mallopt(_M_TRIM_THRESHOLD, GIVEN_BACK)
