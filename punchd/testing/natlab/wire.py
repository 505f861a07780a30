"""
The lab's wire: the end that the lab holds of the program which delays packets.
"""

from __future__ import annotations

import subprocess
import sys

from punchd.testing.natlab import tunnel
from punchd.testing.natlab.namespaces import LabError, inside, ip

DEVICE = "wire"
TABLE = 100


class Wire:
    """
    The TUN device in the core through which every packet between sites goes
    exactly once, and the program that holds them there.

    The lab makes it with the core, and closes it.  The program also ends when
    this process does, since it then reads the end of its input.
    """

    def __init__(self, core: str, jitter: float) -> None:
        # Isolated and without site packages: it starts in a quarter of the time.
        self._process = subprocess.Popen(
            [*inside(core), sys.executable, "-IS", tunnel.__file__, DEVICE, str(jitter)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self._await()
        ip(
            [
                # Bursts wait in the program, so the device's queue must not drop them.
                f"link set {DEVICE} txqueuelen 20000 up",
                # What the wire gives back goes to its site; what sites send goes
                # into the wire; what the core itself says is near to everybody.
                f"rule add pref 10 iif {DEVICE} lookup main",
                f"rule add pref 20 not iif lo lookup {TABLE}",
                f"route add default dev {DEVICE} table {TABLE}",
            ],
            core,
        )

    def _await(self) -> None:
        """
        Wait for the program's next empty line.
        """
        assert self._process.stdout is not None
        if self._process.stdout.read(1) != b"\n":
            raise LabError("the program that delays packets has ended; see its message above")

    def place(self, address: str, seconds: float) -> None:
        """
        Say how far the site of an address is from the middle of the network;
        packets that come after this call are held accordingly.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(f"{address} {seconds!r}\n".encode())
        self._await()

    def close(self) -> None:
        """
        End the program.
        """
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
