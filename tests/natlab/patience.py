"""
Waiting for what processes in the lab do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

#: Seconds in which a port is leased and proven, also where another way of asking has to be given up
#: first.
PATIENCE: Final = 15.0


def until(isSo: Callable[[], Any], what: str, timeout: float = PATIENCE) -> Any:
    """
    Wait until something is so; what it then is.
    """
    patience = time.monotonic() + timeout
    while not (found := isSo()):
        assert time.monotonic() < patience, f"not {what} within {timeout:.0f} s"
        time.sleep(0.05)
    return found
