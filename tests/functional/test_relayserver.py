"""
The relay of a real C{twistd punchd-server}.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from signal import SIGTERM
from typing import Any

import pytest_twisted
from attrs import define, field
from pytest_twisted import ensureDeferred
from twisted.internet import reactor as anyReactor
from twisted.internet.defer import gatherResults

from punchd.link.relayed import relayedConnection
from punchd.values.joining import JoinAddress
from punchd.wire.commands import Introduce, Report
from tests.functional.clients import MasterClient, makeIdentity
from tests.functional.processes import Server
from tests.functional.relays import End, until

reactor: Any = anyReactor


@define(eq=False)
class Family:
    """
    A server, and Alice who calls Bob.
    """

    server: Server
    join: JoinAddress
    alice: MasterClient = field(factory=lambda: MasterClient(makeIdentity()))
    bob: MasterClient = field(factory=lambda: MasterClient(makeIdentity()))
    ends: list[End] = field(factory=list)
    welcome: dict[str, Any] = field(factory=dict)

    @classmethod
    async def make(cls, state: Path, *options: str) -> Family:
        server = Server(state, options)
        made = cls(server, await server.start())
        accepts = frozenset({made.alice.identity.peerID})
        made.welcome = await made.alice.logIn(made.join, "alice", takesrelay=True)
        await made.bob.logIn(made.join, "bob", accepts, takesrelay=True)
        return made

    async def introduce(self, **offer: Any) -> list[dict[str, Any]]:
        """
        What both are told.
        """
        peer = self.bob.identity.peerID
        answer = await self.alice.ask(Introduce, peer=peer, hosts=[], strategies=[], **offer)
        await until(lambda: self.bob.heard.introductions)
        return [answer, self.bob.heard.introductions[-1]]

    async def path(self) -> list[End]:
        """
        A relayed path.
        """
        told = await self.introduce(takesrelay=True)
        ends = [End(), End()]
        self.ends.extend(ends)
        port = self.welcome["relay"].port
        await gatherResults(
            [
                relayedConnection(reactor, "127.0.0.1", port, one["relay"], end)
                for one, end in zip(told, ends, strict=True)
            ]
        )
        return ends

    async def leave(self) -> None:
        for end in self.ends:
            if end.lost is None:
                end.transport.abortConnection()
        await until(lambda: all(end.lost is not None for end in self.ends))
        for client in (self.alice, self.bob):
            await client.close()
        if self.server.process.status is None:
            assert await self.server.stop() == -SIGTERM
        assert "Traceback" not in self.server.log


@pytest_twisted.async_yield_fixture
async def families() -> AsyncIterator[Any]:
    made: list[Family] = []

    async def make(*arguments: Any) -> Family:
        made.append(await Family.make(*arguments))
        return made[-1]

    yield make
    for one in made:
        await one.leave()


@ensureDeferred
async def test_thePeersOfAnIntroductionMeet(families: Any, tmp_path: Path) -> None:
    family = await families(tmp_path / "s")
    assert family.welcome["relay"].host is None
    alice, bob = await family.path()
    alice.transport.write(b"hello")
    await until(lambda: bob.received == b"hello")
    # Neither the end of the introduction nor that of a master connection is the path's.
    session = family.bob.heard.introductions[-1]["session"]
    await family.alice.ask(Report, session=session, strategy=None, seconds=0.1)
    await family.alice.close()
    bob.transport.write(b"hello alice")
    await until(lambda: alice.received == b"hello alice")


@ensureDeferred
async def test_whoTakesNoRelayGetsNoToken(families: Any, tmp_path: Path) -> None:
    family = await families(tmp_path / "s")
    assert [told["relay"] for told in await family.introduce()] == [None, None]


@ensureDeferred
async def test_withoutARelayNobodyDoes(families: Any, tmp_path: Path) -> None:
    family = await families(tmp_path / "s", "--relay=off")
    assert family.welcome["relay"] is None
    told = await family.introduce(takesrelay=True)
    assert [one["relay"] for one in told] == [None, None]


@ensureDeferred
async def test_bothAreToldWhichOfTheOperatorsLimitsBites(families: Any, tmp_path: Path) -> None:
    family = await families(tmp_path / "s", "--relay-bytes=1M")
    alice, bob = await family.path()
    alice.transport.write(bytes(3_000_000))
    await until(lambda: family.alice.heard.notes and family.bob.heard.notes)
    for client in (family.alice, family.bob):
        [note] = client.heard.notes
        assert note["ends"]
        assert "1000000 bytes relayed in 24 hours" in note["reason"]
    await until(lambda: alice.lost is not None and bob.lost is not None)
    assert not bob.inputEnded
    assert "ends the relayed path between alice and bob: " in family.server.log


@ensureDeferred
async def test_whenTheServerEndsNoPathEndsInOrder(families: Any, tmp_path: Path) -> None:
    family = await families(tmp_path / "s")
    alice, bob = await family.path()
    await family.server.stop()
    await until(lambda: alice.lost is not None and bob.lost is not None)
    assert not alice.inputEnded
    assert not bob.inputEnded


@ensureDeferred
async def test_afterALimitTheCallerIsToldForHowLong(families: Any, tmp_path: Path) -> None:
    family = await families(tmp_path / "s", "--relay-bytes=1M")
    alice, bob = await family.path()
    alice.transport.write(bytes(3_000_000))
    await until(lambda: alice.lost is not None and bob.lost is not None)
    session = family.bob.heard.introductions[-1]["session"]
    await family.alice.ask(Report, session=session, strategy=None, seconds=0.1)
    answer, _ = await family.introduce(takesrelay=True)
    await until(lambda: len(family.bob.heard.introductions) == 2)
    assert answer["relay"] is family.bob.heard.introductions[-1]["relay"] is None
    assert "1000000 bytes relayed in 24 hours" in answer["relaylimit"]
    assert 86_000 < answer["relaywait"] <= 86_401
    told = family.bob.heard.introductions[-1]
    assert [told[key] == answer[key] for key in ("relaylimit", "relaywait")] == [True, True]
    assert "relays nothing: " in family.server.log
