"""
Tests for finding the default gateway.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from punchd.errors import Unreachable
from punchd.nat.gateway import defaultRoute, findGateway
from tests.files import withoutFiles

HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"


def line(destination: str, gateway: str, flags: int, metric: int, mask: str) -> str:
    def number(host: str) -> str:
        return f"{int.from_bytes(socket.inet_aton(host), sys.byteorder):08X}"

    return (
        f"eth0\t{number(destination)}\t{number(gateway)}\t{flags:04X}\t0\t0\t{metric}\t"
        f"{number(mask)}\t0\t0\t0\n"
    )


DEFAULT = line("0.0.0.0", "192.168.1.1", 3, 100, "0.0.0.0")
LOCAL = line("192.168.1.0", "0.0.0.0", 1, 100, "255.255.255.0")


def test_theDefaultRouteHasTheGateway() -> None:
    assert defaultRoute(HEAD + LOCAL + DEFAULT) == "192.168.1.1"


def test_theLowestMetricWins() -> None:
    better = line("0.0.0.0", "10.0.0.1", 3, 50, "0.0.0.0")
    assert defaultRoute(HEAD + DEFAULT + better) == "10.0.0.1"


@pytest.mark.parametrize(
    "other",
    [
        line("0.0.0.0", "10.0.0.1", 2, 1, "0.0.0.0"),  # not up
        line("0.0.0.0", "0.0.0.0", 1, 1, "0.0.0.0"),  # a link without a router, as of a tunnel
        line("0.0.0.0", "10.0.0.1", 3, 1, "128.0.0.0"),  # half of the world
        line("10.0.0.0", "10.0.0.1", 3, 1, "255.0.0.0"),
    ],
)
def test_otherRoutesDoNotCount(other: str) -> None:
    assert defaultRoute(HEAD + other) is None


@given(st.text())
def test_anythingIsRead(text: str) -> None:
    defaultRoute(text)


def test_aSystemThatDoesNotTellIsOneWhereNobodyCanTell(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="cannot tell which router is ours on this system"):
        findGateway(tmp_path / "nothing")


def test_noDefaultRouteIsSaid(tmp_path: Path) -> None:
    routes = tmp_path / "route"
    routes.write_text(HEAD + LOCAL)
    with pytest.raises(Unreachable, match="no default gateway"):
        findGateway(routes)


def test_withoutAFileDescriptorNothingIsKnown(tmp_path: Path) -> None:
    routes = tmp_path / "route"
    routes.write_text(HEAD + DEFAULT)
    with withoutFiles(), pytest.raises(OSError, match="Too many open files"):
        findGateway(routes)


def test_ourOwnAddressIsTheOneTowardIt(tmp_path: Path) -> None:
    routes = tmp_path / "route"
    routes.write_text(HEAD + line("0.0.0.0", "127.0.0.1", 3, 0, "0.0.0.0"))
    found = findGateway(routes)
    assert (found.host, found.own) == ("127.0.0.1", "127.0.0.1")
