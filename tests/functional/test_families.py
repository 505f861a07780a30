"""
Tests for servers and peers that speak IPv6, as processes on the loopback interface.
"""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
import pytest_twisted
from attrs import define, evolve
from pytest_twisted import ensureDeferred

from tests.functional.peers import Peer
from tests.functional.processes import Server


def hasIPv6() -> bool:
    with suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


pytestmark = pytest.mark.skipif(
    not hasIPv6(), reason="this machine has no IPv6, not even on loopback"
)

LOOPBACK6 = r"tcp6:0:interface=\:\:1"


@define
class Both:
    """
    A server whose master service listens at C{::1}, and peers; Carol punches from fresh ports.
    """

    server: Server
    alice: Peer
    bob: Peer
    carol: Peer


@pytest_twisted.async_yield_fixture(scope="module")
async def both(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Both]:
    folder = tmp_path_factory.mktemp("f")
    options = ("--host=::1", f"--master={LOOPBACK6}", f"--assist={LOOPBACK6}")
    server = Server(folder / "server", options)
    join = evolve(await server.start(), host="::1")
    alice, bob, carol = (
        Peer(name, folder / name, [f"--server={join}"]) for name in ("alice", "bob", "carol")
    )
    carol.options.append("--strategies=sequential")
    alice.trust(bob)
    bob.trust(alice, carol)
    carol.trust(bob)
    for peer in (alice, bob, carol):
        await peer.start()
    yield Both(server, alice, bob, carol)
    for peer in (alice, bob, carol):
        await peer.stop()
        assert "Traceback" not in peer.log, peer.log
    await server.stop()
    assert "Traceback" not in server.log, server.log


@ensureDeferred
async def test_theServerSeesThePeerByIPv6(both: Both) -> None:
    status = await both.alice.status()
    assert status is not None
    (server,) = status["servers"]
    assert server["observed"].startswith("[::1]:")
    # Loopback is nothing to offer to others.
    assert server["ipv6"] is None


@ensureDeferred
async def test_peersMeetByIPv6(both: Both) -> None:
    facts = await ping(both.alice, "bob")
    assert facts["path"] == "direct"
    dialled = [tried["remote"] for each in facts["attempts"] for tried in each["tries"]]
    assert dialled
    assert all(remote.startswith("[::1]:") for remote in dialled)


@ensureDeferred
async def test_freshPortsAreOfTheFamilyToo(both: Both) -> None:
    """
    Of the server's assist services, the first is one of IPv4.
    """
    facts = await ping(both.carol, "bob")
    assert (facts["path"], facts["strategy"]) == ("direct", "sequential")


async def ping(peer: Peer, other: str) -> dict[str, Any]:
    done = await peer.punchd("ping", other, "--json")
    facts: dict[str, Any] = json.loads(done.out)
    return facts
