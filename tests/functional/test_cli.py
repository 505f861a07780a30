"""
Tests for the command C{punchd}, with and without a running peer.
"""

from __future__ import annotations

import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import define
from pytest_twisted import ensureDeferred

from punchd.strategies.planning import PREFERENCE
from tests.functional.peers import Command, Echo, Peer, portOf, punchd, runPunchd, serve
from tests.functional.processes import Server, sleep


@define
class Two:
    """
    Alice and Bob, who exposes C{echo}.
    """

    alice: Peer
    bob: Peer


@pytest_twisted.async_yield_fixture(scope="module")
async def two(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Two]:
    folder = tmp_path_factory.mktemp("two")
    server = Server(folder / "server")
    join = await server.start()
    service = serve(Echo)
    alice = Peer("alice", folder / "alice", [f"--server={join}", "--forward=0=bob/echo"])
    bob = Peer("bob", folder / "bob", [f"--server={join}"])
    bob.options.append(f"--expose=echo=tcp:127.0.0.1:{portOf(service)}")
    alice.trust(bob)
    bob.trust(alice)
    await bob.start()
    await alice.start()
    yield Two(alice, bob)
    for peer in (alice, bob):
        await peer.stop()
    await server.stop()
    stopping: Any = service.stopListening()
    await stopping
    for peer in (alice, bob):
        assert "Traceback" not in peer.log, peer.log


def factsOf(running: Command) -> Any:
    assert running.status == 0, running.err
    return json.loads(running.out)


def problemOf(running: Command) -> str:
    assert (running.status, running.out) == (1, "")
    assert running.err.startswith("punchd: ")
    assert running.err.count("\n") == 1
    return running.err


class TestWithoutAPeer:
    @ensureDeferred
    async def test_idMakesTheKeyAndPrintsTheIDAlone(self, tmp_path: Path) -> None:
        peer = Peer("alice", tmp_path / "state")
        running = await peer.punchd("id")
        assert running.out == f"{peer.identity.peerID}\n"
        assert stat.S_IMODE((peer.state / "key.pem").stat().st_mode) == 0o600

    @ensureDeferred
    async def test_whoIsTrustedIsListed(self, tmp_path: Path) -> None:
        peer = Peer("alice", tmp_path / "state")
        assert (await peer.punchd("trust", "bob", "0b" * 32)).status == 0
        assert (await peer.punchd("pins")).out == f"bob  {'0b' * 32}\n"
        assert factsOf(await peer.punchd("pins", "--json")) == {"bob": "0b" * 32}

    @pytest.mark.parametrize(
        ("name", "peerID", "reason"),
        [("bob", "xyz", "is no peer ID"), ("b b", "0b" * 32, "cannot be a name")],
    )
    @ensureDeferred
    async def test_whatCannotBeTrustedIsOneLine(
        self, tmp_path: Path, name: str, peerID: str, reason: str
    ) -> None:
        running = await punchd("trust", f"--state={tmp_path}", name, peerID)
        assert reason in problemOf(running)

    @ensureDeferred
    async def test_badPinsAreOneLineAndStay(self, tmp_path: Path) -> None:
        (tmp_path / "pins.json").write_text("{")
        running = await punchd("trust", f"--state={tmp_path}", "bob", "0b" * 32)
        assert "pins.json holds no pins" in problemOf(running)
        assert (tmp_path / "pins.json").read_text() == "{"

    @pytest.mark.parametrize("command", ["id", "pins"])
    @ensureDeferred
    async def test_anUnusableStateFolderIsOneLine(self, tmp_path: Path, command: str) -> None:
        (tmp_path / "file").touch()
        running = await punchd(command, f"--state={tmp_path}/file/below")
        assert "choose another one with --state" in problemOf(running)

    @pytest.mark.parametrize(
        "command", [["status"], ["ping", "bob"], ["connect", "bob/echo"], ["status", "--json"]]
    )
    @ensureDeferred
    async def test_withoutARunningPeerItSaysHowToStartOne(
        self, tmp_path: Path, command: list[str]
    ) -> None:
        running = await punchd(command[0], f"--state={tmp_path}", *command[1:])
        assert "start it with 'twistd punchd-peer'" in problemOf(running)

    @ensureDeferred
    async def test_strategiesAreListedBestFirst(self) -> None:
        facts = factsOf(await punchd("strategies", "--json"))
        names = [fact["name"] for fact in facts]
        assert names[: len(PREFERENCE)] == list(PREFERENCE)
        assert all(fact["package"] for fact in facts)
        assert all(fact["problem"] is None for fact in facts)

    @pytest.mark.parametrize(
        "arguments", [[], ["nonsense"], ["status", "--nonsense"], ["trust", "bob"], ["ping"]]
    )
    @ensureDeferred
    async def test_wrongUsageIsStatus2(self, arguments: list[str]) -> None:
        running = await punchd(*arguments)
        assert (running.status, running.out) == (2, "")
        assert running.err.startswith("usage: ")


class TestWithAPeer:
    @ensureDeferred
    async def test_statusHasWhatScriptsRelyOn(self, two: Two) -> None:
        await two.alice.punchd("ping", "bob")
        facts = factsOf(await two.alice.punchd("status", "--json"))
        assert facts["master"] == "connected"
        link = facts["links"]["bob"]
        assert link["path"] == "direct"
        assert link["strategy"] in ("lan", "simultaneous", "sequential")
        assert link["reason"] is None
        assert 0 < link["rtt"] < 5
        assert {"streams", "bytesIn", "bytesOut"} <= set(link)

    @ensureDeferred
    async def test_statusForPeopleNamesServerForwardAndLink(self, two: Two) -> None:
        await two.alice.punchd("ping", "bob")
        running = await two.alice.punchd("status")
        lines = running.out.splitlines()
        assert lines[0].startswith("alice  ")
        assert lines[0].endswith("master: connected")
        assert any(line.startswith("server 127.0.0.1:") for line in lines)
        assert "forwards 0 to bob/echo" in lines
        assert any(line.startswith("link bob: direct by ") for line in lines)

    @ensureDeferred
    async def test_statusNamesWhatIsExposed(self, two: Two) -> None:
        assert "exposes echo" in (await two.bob.punchd("status")).out.splitlines()

    @ensureDeferred
    async def test_pingHasWhatScriptsRelyOn(self, two: Two) -> None:
        facts = factsOf(await two.alice.punchd("ping", "bob", "--json"))
        assert (facts["peer"], facts["path"], facts["reason"]) == ("bob", "direct", None)
        assert 0 < facts["rtt"] < 5
        assert facts["attempts"]

    @ensureDeferred
    async def test_pingForPeopleIsOneLine(self, two: Two) -> None:
        running = await two.alice.punchd("ping", "bob")
        assert running.out.startswith("bob: direct by ")
        assert running.out.count("\n") == 1

    @ensureDeferred
    async def test_aPingOfNobodyWeKnowIsOneLine(self, two: Two) -> None:
        running = await two.alice.punchd("ping", "nobody")
        assert "no peer is pinned as 'nobody'" in problemOf(running)

    @ensureDeferred
    async def test_aPingThatFailsStillPrintsFacts(self, two: Two) -> None:
        await two.alice.punchd("trust", "carol", "0c" * 32)
        running = await two.alice.punchd("ping", "carol", "--json")
        assert running.status == 1
        facts = json.loads(running.out)
        assert (facts["peer"], facts["path"]) == ("carol", None)
        assert facts["reason"]

    @ensureDeferred
    async def test_whoIsTrustedIsTrustedAtOnce(self, two: Two) -> None:
        await two.alice.punchd("trust", "dora", "0d" * 32)
        running = await two.alice.punchd("ping", "dora")
        assert "is pinned as" not in problemOf(running)
        assert "dora" in (await two.alice.punchd("pins")).out

    @ensureDeferred
    async def test_idIsThatOfTheRunningPeer(self, two: Two) -> None:
        running = await two.alice.punchd("id", "--json")
        status = factsOf(await two.alice.punchd("status", "--json"))
        assert factsOf(running)["id"] == status["id"]


@ensureDeferred
async def test_theStatusIsWatchedWhileThePeerIsStartedAnew(tmp_path: Path) -> None:
    # Nobody is a server at port 1; the peer is there all the same.
    carol = Peer("carol", tmp_path / "carol", [f"--server=127.0.0.1:1#{'0' * 64}"])
    carol.launch()
    await carol.awaitMaster("connecting")
    watching = runPunchd("status", "--watch", "--json", f"--state={carol.state}")
    await watching.said('"name": "carol"')
    await carol.stop()
    await watching.said('"error": "no punchd-peer is running')
    seen = watching.out.count('"name": "carol"')
    carol.launch()
    await carol.awaitMaster("connecting")
    while watching.out.count('"name": "carol"') == seen:
        await sleep(0.1)
    assert await watching.stop("INT") == 0
    assert watching.err == ""
    for line in watching.out.splitlines():
        assert isinstance(json.loads(line), dict)
    await carol.stop()
