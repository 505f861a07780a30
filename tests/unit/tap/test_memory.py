"""
Tests for L{punchd.tap.memory}, in a process of their own: it is for good.
"""

import platform
import subprocess
import sys

import pytest

_PROGRAM = """
import ctypes
from punchd.tap.memory import keepFreedMemory

class Use(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd",
        "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Use
keepFreedMemory()
alone = libc.mallinfo2().hblks
pieces = [bytearray(262_144) for _ in range(16)]
print(libc.mallinfo2().hblks - alone)
size = libc.mallinfo2().arena
del pieces
print(libc.mallinfo2().arena == size)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is tuned")
def test_whatABusyStreamFreesIsKept() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ["0", "True"]
