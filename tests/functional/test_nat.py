"""
Tests for what a peer finds out about its NAT, and for leased addresses, on real sockets of the
loopback interface, where there is no NAT. The NATs are in C{tests/natlab}.
"""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import pytest_twisted
from pytest_twisted import ensureDeferred
from twisted.internet.endpoints import TCP4ServerEndpoint

from punchd.errors import Refused, Unreachable
from punchd.identity.folder import StateFolder
from punchd.nat.discovery import Surroundings
from punchd.net.held import HeldPort
from punchd.peer.service import PunchdPeer
from punchd.server.registry.memory import MemoryRegistry
from punchd.server.service import PunchdServer
from punchd.values.addresses import Address, makeAddress
from punchd.wire.commands import DialBack, Tokens
from tests.functional.clients import Wire, dial
from tests.functional.peers import Echo, portOf, punchd, serve
from tests.functional.test_inside import Inside, Watcher, isConnected, until


@pytest_twisted.async_yield_fixture
async def inside(tmp_path: Path) -> AsyncIterator[Inside]:
    here = Inside(tmp_path)
    yield here
    await here.stop()


async def serverAt(inside: Inside, *hosts: str) -> PunchdServer:
    """
    A server with an assist service at each of these addresses of this machine.
    """
    from twisted.internet import reactor

    server = PunchdServer(
        reactor=reactor,
        folder=StateFolder.at(str(inside.folder / "server")),
        hosts=["127.0.0.1"],
        masterEndpoint=TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1"),
        assistEndpoints=[TCP4ServerEndpoint(reactor, 0, interface=host) for host in hosts],
        registry=MemoryRegistry(),
        observer=Watcher(),
        # Here everybody is at a loopback address.
        isProvable=lambda address: True,
    )
    await server.listen()
    server.startService()
    inside.stopping.append(server.stopService)
    return server


async def alone(inside: Inside, *hosts: str) -> PunchdPeer:
    """
    A peer that is connected to such a server.
    """
    server = await serverAt(inside, *hosts)
    peer = inside.peer("alice", server.joinAddress)
    peer.startService()
    await until(lambda: isConnected(peer))
    return peer


@ensureDeferred
async def test_whereThereIsNoNatNoneIsFound(inside: Inside) -> None:
    peer = await alone(inside, "127.0.0.1", "127.0.0.1", "127.0.0.2")
    found = await peer.findNat(False)
    assert found["line"] == "no NAT (EIM/EIF), resets what nobody asked for, seen as 127.0.0.1"
    assert found["unclear"] == found["contradictions"] == []
    assert found["complete"] is True
    [server] = peer.describe()["servers"]
    assert (server["mapping"], server["nat"]) == ("EIM", found["line"])


@ensureDeferred
async def test_whatIsFoundIsInTheOffer(inside: Inside) -> None:
    peer = await alone(inside, "127.0.0.1", "127.0.0.1")
    await peer.findNat(False)
    client = peer.clients[0]
    assert client.offerFor(peer.punches.offer, client.port).nat == client.nat
    assert client.nat.kind == "EIM/ADF/reset/preserving"
    assert client.nat.fromOneAddress


@ensureDeferred
async def test_punchdNatPrintsIt(inside: Inside) -> None:
    peer = await alone(inside, "127.0.0.1", "127.0.0.1", "127.0.0.2")
    state = f"--state={peer.folder.path}"
    running = await punchd("nat", state, "--again")
    assert (running.status, running.err) == (0, "")
    line, *full = running.out.splitlines()
    assert line.startswith("no NAT (EIM/EIF)")
    assert "  mapping:                  EIM" in full
    running = await punchd("nat", state, "--json")
    facts = json.loads(running.out)
    assert facts == await peer.findNat(False)


@ensureDeferred
async def test_withoutAServerNothingIsFound(inside: Inside) -> None:
    peer = await alone(inside, "127.0.0.1")
    await inside.stopping.pop(0)()
    await until(lambda: not isConnected(peer))
    with pytest.raises(Unreachable):
        await peer.findNat(False)
    running = await punchd("nat", f"--state={peer.folder.path}")
    assert (running.status, running.out) == (1, "")
    assert running.err.count("\n") == 1


@ensureDeferred
async def test_aLookThatFailsIsToldBesideWhatIsKnown(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = await alone(inside, "127.0.0.1", "127.0.0.1", "127.0.0.2")
    before = await peer.findNat(False)
    assert before["problem"] is None

    def fails(around: Surroundings) -> NoReturn:
        raise Unreachable("out of ports")

    monkeypatch.setattr(peer.clients[0].discovering, "_instruments", fails)
    found = await peer.findNat(True)
    assert found == before | {"problem": "out of ports"}
    running = await punchd("nat", f"--state={peer.folder.path}")
    assert (running.status, running.err) == (0, "")
    assert "  problem: looking again has failed: out of ports" in running.out.splitlines()


@ensureDeferred
async def test_aPeerMayBeStoppedWhileItLooks(inside: Inside) -> None:
    """
    The guard of all tests looks for ports, connections and delayed calls that are left.
    """
    peer = await alone(inside, "127.0.0.1", "127.0.0.1")
    peer.clients[0].discovering.begin()
    await peer.stopService()
    inside.stopping.remove(peer.stopService)


def leased(peer: PunchdPeer) -> HeldPort:
    """
    A port of a peer, as if a router had leased it to it.
    """
    from twisted.internet import reactor

    reacting: Any = reactor
    return HeldPort.take(reacting, peer.clients[0].port.acceptor)


def at(port: int) -> Address:
    return makeAddress("127.0.0.1", port)


@ensureDeferred
async def test_aPortThatIsOursIsProven(inside: Inside) -> None:
    peer = await alone(inside, "127.0.0.1")
    port = leased(peer)
    try:
        assert await peer.clients[0].prove(port, at(port.number))
        assert not port.isListening
    finally:
        await port.close()


@ensureDeferred
async def test_aPortOfSomebodyElseIsNotProven(inside: Inside) -> None:
    """
    What listens there says again what it hears.
    """
    peer = await alone(inside, "127.0.0.1")
    echo = serve(Echo)
    inside.stopping.append(echo.stopListening)
    port = leased(peer)
    try:
        assert not await peer.clients[0].prove(port, at(portOf(echo)))
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            assert not await peer.clients[0].prove(port, at(closed.getsockname()[1]))
        assert not await peer.clients[0].prove(port, makeAddress("127.0.0.9", port.number))
    finally:
        await port.close()


@ensureDeferred
async def test_anotherPeerHereCannotProveThePort(inside: Inside) -> None:
    """
    Two peers behind one address: each may prove its own ports only.
    """
    alice, bob = await inside.pair()
    port, own = leased(alice), leased(bob)
    port.listen()
    try:
        assert not await bob.clients[0].prove(own, at(port.number))
        assert await alice.clients[0].prove(port, at(port.number))
    finally:
        await port.close()
        await own.close()


async def touched(peer: PunchdPeer) -> tuple[bytes, Wire]:
    """
    A port that the assist service has seen, by hand, and its token.
    """
    from punchd.wire.observing import Question

    client = peer.clients[0]
    [token] = (await client.ask(Tokens, count=1))["tokens"]
    wire = await dial(client.assists(client.port)[0].port, Question(token, bytes(18)).pack())
    await wire.has(14)
    return token, wire


@ensureDeferred
async def test_whatIsClosedIsNotDialled(inside: Inside) -> None:
    peer = await alone(inside, "127.0.0.1")
    token, wire = await touched(peer)
    answer = await peer.clients[0].ask(DialBack, token=token, source=0)
    assert answer["answer"].value == "reset"
    await wire.close()

    async def isRefused() -> bool:
        try:
            await peer.clients[0].ask(DialBack, token=token, source=0)
        except Refused:
            return True
        return False

    for _ in range(50):
        if await isRefused():
            return
    raise AssertionError("the server dials a port whose connection is closed")


@pytest.mark.parametrize("source", [-1, 1, 10**9])
@ensureDeferred
async def test_thereIsNoDiallingFromElsewhere(inside: Inside, source: int) -> None:
    peer = await alone(inside, "127.0.0.1")
    token, wire = await touched(peer)
    with pytest.raises(Refused):
        await peer.clients[0].ask(DialBack, token=token, source=source)
    await wire.close()


@ensureDeferred
async def test_thePortOfAnotherPeerIsNotDialled(inside: Inside) -> None:
    alice, bob = await inside.pair()
    token, wire = await touched(alice)
    with pytest.raises(Refused):
        await bob.clients[0].ask(DialBack, token=token, source=0)
    await wire.close()
