"""
The manual's examples of endpoints, as programs of their own: over the running peers of Alice and
Bob, and as peers themselves.
"""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_twisted
from attrs import define, field
from pytest_twisted import ensureDeferred
from twisted.internet.defer import maybeDeferred

from tests.functional.peers import Echo, Peer, portOf, serve
from tests.functional.processes import Running, Server

EXAMPLES = Path(__file__).parents[2] / "docs/examples/endpoints"


@define
class Meeting:
    """
    Alice and Bob, who trust each other, and what follows C{punchd:NAME} for each of them.
    """

    alice: str
    bob: str
    peers: dict[str, Peer]
    running: list[Running] = field(factory=list)

    def run(self, example: str, *arguments: str) -> Running:
        self.running.append(Running(sys.executable, str(EXAMPLES / example), *arguments))
        return self.running[-1]

    async def said(self, example: str, *arguments: str) -> str:
        running = self.run(example, *arguments)
        assert await running.ended() == 0, running.err
        return running.out


@pytest_twisted.async_yield_fixture(params=["running", "own"])
async def meeting(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Meeting]:
    server = Server(tmp_path / "server")
    join = await server.start()
    alice, bob = (Peer(name, tmp_path / name, [f"--server={join}"]) for name in ("alice", "bob"))
    alice.trust(bob)
    bob.trust(alice)
    if request.param == "running":
        for peer in (alice, bob):
            await peer.start()
        arguments = [f":state={peer.state}" for peer in (alice, bob)]
    else:
        escaped = str(join).replace(":", "\\:")
        arguments = [
            f":state={peer.state}:server={escaped}:name={peer.name}" for peer in (alice, bob)
        ]
    here = Meeting(arguments[0], arguments[1], {"alice": alice, "bob": bob})
    yield here
    for running in here.running:
        if running.status is None:
            await running.stop()
    for peer in (alice, bob):
        await peer.stop()
    await server.stop()


@ensureDeferred
async def test_aWebSiteGreetsItsVisitorByName(meeting: Meeting) -> None:
    site = meeting.run("webserver.py", f"punchd:web{meeting.bob}")
    await site.said("punchd:web is served by bob")
    for _ in range(2):
        said = await meeting.said("webclient.py", "http://web.bob/", meeting.alice)
        assert said == "200 Hello, alice!\n"


@ensureDeferred
async def test_theGreeterKnowsTheCallersKey(meeting: Meeting) -> None:
    await meeting.run("greeter.py", "serve", f"punchd:greeter{meeting.bob}").said("is there")
    said = await meeting.said("greeter.py", "call", f"punchd:bob/greeter{meeting.alice}")
    key = meeting.peers["alice"].identity.peerID
    assert said == (f"connected to bob\nGood morning to you, alice with the key {key}\n")


@ensureDeferred
async def test_aProgramThatServesMayEndAtAnyTime(meeting: Meeting) -> None:
    """
    A peer of its own is stopped with it, and leaves its folder to the next one.
    """
    for _ in range(2):
        serving = meeting.run("greeter.py", "serve", f"punchd:greeter{meeting.bob}")
        await serving.said("is there")
        await serving.stop()
    gone = meeting.run("greeter.py", "call", f"punchd:bob/greeter{meeting.alice}")
    assert await gone.ended() == 1
    assert "punchd.errors." in gone.err


@ensureDeferred
async def test_aProgramMayHaveAPeerInside(tmp_path: Path) -> None:
    server = Server(tmp_path / "server")
    join = await server.start()
    service = serve(Echo)
    alice = Peer("alice", tmp_path / "alice")
    exposed = f"--expose=echo=tcp:127.0.0.1:{portOf(service)}"
    bob = Peer("bob", tmp_path / "bob", [f"--server={join}", exposed])
    alice.trust(bob)
    bob.trust(alice)
    await bob.start()
    program = Running(sys.executable, str(EXAMPLES / "inside.py"), str(join), str(alice.state))
    assert await program.ended() == 0, program.err
    shown = [f"{one.name} ({one.identity.peerID.short}…)" for one in (alice, bob)]
    assert program.out == f"this is {shown[0]}\nconnected to {shown[1]}\n"
    await bob.stop()
    await server.stop()
    await maybeDeferred(service.stopListening)
