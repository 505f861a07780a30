"""
Telling something to who uses a stream, whose bugs must not be the link's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

_log = Logger()


def tell(method: Callable[..., Any], *arguments: object) -> bool:
    """
    Call a method of a protocol or a producer. What it raises is logged, as the reactor does with
    those of its transports: there, it would end what carries all streams.

    @return: whether it has raised nothing.
    """
    try:
        method(*arguments)
    except Exception:
        _log.failure("{method} failed", method=method)
        return False
    return True
