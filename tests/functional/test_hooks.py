"""
Tests for C{--on-change} with real commands: good ones, and all kinds of bad ones.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from attrs import define, evolve, field
from pytest_twisted import ensureDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from punchd.hooks.child import Process
from punchd.hooks.command import Command
from punchd.hooks.memory import Memory
from punchd.hooks.telling import Teller
from punchd.identity.folder import StateFolder
from tests.functional.peers import Peer
from tests.functional.processes import PATIENCE, Server, sleep
from tests.functional.test_server import Visitors, begin, end
from tests.unit.hooks.pretending import makeFacts

BOB, CAROL = makeFacts("bob"), makeFacts("carol")


RECIPES = Path(__file__).parents[2] / "docs/examples/on-change"

#: How somebody is called who may not write everywhere.
MODEST = () if os.geteuid() else ("setpriv", "--bounding-set=-dac_override")


def script(path: Path, body: str, mode: int = 0o755) -> str:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(mode)
    return str(path)


async def until(isSo: Any, what: str) -> None:
    for _ in range(int(PATIENCE / 0.02)):
        if isSo():
            return
        await sleep(0.02)
    raise AssertionError(f"not {what} within {PATIENCE:.0f} s")


def isAlive(pid: int) -> bool:
    """
    Whether a process runs; not if it waits to be reaped by somebody else.
    """
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


@implementer(ILogObserver)
@define(eq=False)
class World:
    """
    A teller with real processes, in this one.
    """

    folder: Path
    log: list[str] = field(factory=list)
    teller: Teller | None = None

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_namespace", "").startswith("punchd.hooks"):
            self.log.append(event["log_format"].format(**event))

    def start(self, body: str, *, deadline: float = 20.0, mode: int = 0o755) -> None:
        self.startCommand(script(self.folder / "command", body, mode), deadline=deadline)

    def startCommand(self, *words: str, deadline: float = 20.0) -> None:
        from twisted.internet import reactor

        self.teller = Teller(
            clock=cast(IReactorTime, reactor),
            command=Command(words, deadline),
            spawn=partial(Process, reactor),
            memory=Memory.inFolder(StateFolder.at(str(self.folder / "state"))),
            environment={**os.environ, "FOLDER": str(self.folder)},
        )
        self.teller.startService()

    def tell(self, *facts: Any) -> None:
        assert self.teller is not None
        for one in facts:
            self.teller.tell(one)

    def heard(self, text: str) -> int:
        return sum(text in line for line in self.log)

    async def hears(self, text: str) -> None:
        await until(lambda: self.heard(text), f"said: {text}; but {self.log}")

    def content(self, name: str) -> str:
        path = self.folder / name
        return path.read_text() if path.exists() else ""

    async def stop(self) -> None:
        if self.teller is not None:
            await self.teller.stopService()


@pytest_twisted.async_yield_fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    here = World(tmp_path)
    globalLogPublisher.addObserver(here)
    yield here
    await here.stop()
    globalLogPublisher.removeObserver(here)


@ensureDeferred
async def test_theCommandSeesTheFactsAndNoTerminal(world: World) -> None:
    world.start('env | grep ^PUNCHD_ | sort >$FOLDER/out; cat >>$FOLDER/out; echo "did $0"')
    world.tell(BOB)
    await world.hears("did")
    assert world.content("out").splitlines() == [
        "PUNCHD_ADDRESS=198.51.100.1",
        "PUNCHD_CHANGED=address ipv4 observed",
        "PUNCHD_EVENT=arrived",
        "PUNCHD_IPV4=198.51.100.1",
        "PUNCHD_IPV6=",
        "PUNCHD_OBSERVED=198.51.100.1",
        "PUNCHD_PATH=",
        f"PUNCHD_PEER={BOB.name}",
        f"PUNCHD_PEER_ID={BOB.peerID}",
        "PUNCHD_SERVICES=",
        "PUNCHD_STRATEGY=",
        "PUNCHD_SUBJECT=peer",
    ]
    assert world.log == [f"--on-change (bob): did {world.folder}/command"]


@ensureDeferred
async def test_noShellIsInvolved(world: World) -> None:
    world.startCommand("printf", "%s\\n", "$HOME; exit 3", "*")
    world.tell(BOB)
    await world.hears("*")
    assert world.log == ["--on-change (bob): $HOME; exit 3", "--on-change (bob): *"]


@ensureDeferred
async def test_aCommandThatHangsIsEndedAndOthersAreServed(world: World) -> None:
    """
    With all that it has started: its children would keep the pipe open.
    """
    world.start(
        'echo $$ >>$FOLDER/pids; [ "$PUNCHD_PEER" = carol ] && exit 0\n'
        "sleep 600 & echo $! >>$FOLDER/pids; wait",
        deadline=0.5,
    )
    world.tell(BOB, CAROL)
    await world.hears("took longer than 0.5 s and was ended (bob); it will be tried again")
    await until(lambda: len(world.content("pids").split()) >= 3, "carol's turn")
    first, second, *_ = map(int, world.content("pids").split())
    await until(lambda: not isAlive(first) and not isAlive(second), "ended")


@ensureDeferred
async def test_aCommandThatDoesNotWantToEndIsKilled(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("punchd.hooks.run.TERM_PATIENCE", 0.3)
    world.start(
        "trap '' TERM; echo $$ >>$FOLDER/pids\nwhile :; do sleep 1; done",
        deadline=0.5,
    )
    world.tell(BOB)
    await world.hears("took longer than 0.5 s")
    pid = int(world.content("pids").split()[0])
    assert not isAlive(pid)


@ensureDeferred
async def test_aCommandThatFailsIsToldOnceAndTriedAgain(world: World) -> None:
    world.start(
        "echo >>$FOLDER/tries; [ $(wc -l <$FOLDER/tries) -ge 3 ] && exit 0\n"
        "echo something is wrong >&2; exit 7"
    )
    world.tell(BOB)
    await world.hears("works again")
    assert world.log == [
        "--on-change (bob): something is wrong",
        "the --on-change command ended with status 7 (bob); it will be tried again",
        "the --on-change command works again (bob)",
    ]
    assert len(world.content("tries").splitlines()) == 3


@ensureDeferred
async def test_aCommandThatFloodsItsOutputIsEnded(world: World) -> None:
    world.start("echo $$ >$FOLDER/pid; exec yes 'more and more'")
    world.tell(BOB)
    await world.hears("said more than 1 MiB and was ended")
    assert not isAlive(int(world.content("pid")))
    assert len(world.log) == 22


@ensureDeferred
async def test_aLongLineIsCut(world: World) -> None:
    world.start("head -c 500000 /dev/zero | tr '\\0' x; echo; echo end")
    world.tell(BOB)
    await world.hears("end")
    assert [len(line) for line in world.log] == [len("--on-change (bob): ") + 300, 22]


@ensureDeferred
async def test_aMissingCommandIsToldAndTriedAgain(world: World) -> None:
    missing = world.folder / "later"
    world.startCommand(str(missing))
    world.tell(BOB, CAROL)
    await world.hears("cannot be started: No such file or directory")
    script(missing, "exit 0")
    await world.hears("works again")
    said = [line.partition(" (")[0] for line in world.log if "has run" not in line]
    assert said == [
        f"--on-change: there is no program {missing} yet",
        "the --on-change command cannot be started: No such file or directory",
        "the --on-change command works again",
    ]


@ensureDeferred
async def test_aFolderThatARecipeCannotWriteToIsToldOnce(world: World) -> None:
    """
    The manual's, for nginx; which does not come to it.
    """
    folder = world.folder / "upstreams"
    folder.mkdir(0o555)
    recipe = str(RECIPES / "nginx-upstream.sh")
    world.startCommand("env", "NGINX_COMMAND=true", *MODEST, recipe, str(folder), "bob/web")
    world.tell(evolve(BOB, services=(("web", 8080),)), CAROL)
    await world.hears("it will be tried again")
    await sleep(1.5)
    # Carol is nobody's upstream: but the file for bob is not there for her either.
    assert world.heard(f"cannot write to {folder}") == world.heard("it will be tried again") == 1
    folder.chmod(0o755)
    await world.hears("works again")
    assert "server 198.51.100.1:8080;" in world.content("upstreams/web.bob.conf")


@ensureDeferred
async def test_aFileThatIsNoProgramIsTold(world: World) -> None:
    world.start("exit 0", mode=0o644)
    world.tell(BOB)
    await world.hears("cannot be started: Permission denied (bob); it will be tried again")


@ensureDeferred
async def test_aProgramOfNoKnownFormatIsTold(world: World) -> None:
    path = world.folder / "noise"
    path.write_bytes(b"\x7fELF and nothing behind it")
    path.chmod(0o755)
    world.startCommand(str(path))
    world.tell(BOB)
    await world.hears("cannot be started: Exec format error")


@ensureDeferred
async def test_aCommandThatASignalEndsIsTold(world: World) -> None:
    world.start("kill -SEGV $$")
    world.tell(BOB)
    await world.hears(f"was ended by signal {int(signal.SIGSEGV)} (Segmentation fault) (bob)")


@ensureDeferred
async def test_whatACommandLeavesRunningIsEndedWithIt(world: World) -> None:
    """
    A child that keeps the pipe open, and one that does not want to end.
    """
    world.start(
        "sleep 600 & echo $! >$FOLDER/pids\n"
        "(trap '' TERM; while :; do sleep 1; done) & echo $! >>$FOLDER/pids\n"
        'echo "told $PUNCHD_PEER"'
    )
    world.tell(BOB)
    await world.hears("told bob")
    for pid in world.content("pids").split():
        assert not isAlive(int(pid))
    world.tell(CAROL)
    await world.hears("told carol")


@ensureDeferred
async def test_whatBeginsASessionOfItsOwnLivesOn(world: World) -> None:
    """
    A daemon, even one that keeps the pipe: nobody waits for it, nor ends it.
    """
    world.start("setsid -f sh -c 'echo $$ >$FOLDER/pid; exec sleep 600'; echo done")
    world.tell(BOB)
    await world.hears("done")
    await until(lambda: world.content("pid").endswith("\n"), "begun")
    pid = int(world.content("pid"))
    assert isAlive(pid)
    os.kill(pid, signal.SIGKILL)


@ensureDeferred
async def test_atTheEndNothingIsLeftRunning(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("punchd.hooks.telling.STOPPING", 0.3)
    world.start("echo $$ >$FOLDER/pid; sleep 600 & echo $! >>$FOLDER/pid; wait")
    world.tell(BOB)
    await until(lambda: len(world.content("pid").split()) == 2, "begun")
    await world.stop()
    for pid in world.content("pid").split():
        assert not isAlive(int(pid))
    with pytest.raises(ChildProcessError):
        os.waitpid(int(world.content("pid").split()[0]), os.WNOHANG)


@pytest.fixture
def recorder(tmp_path: Path) -> str:
    return script(
        tmp_path / "record",
        f'echo "$PUNCHD_EVENT $PUNCHD_PEER $PUNCHD_ADDRESS" >>{tmp_path}/told\n'
        f'[ "$PUNCHD_PEER" != slow ] || {{ echo $$ >{tmp_path}/slow; sleep 600; }}',
    )


async def served(visitors: Visitors) -> None:
    await visitors.leave()
    await end(visitors.server)


@ensureDeferred
async def test_theServerTellsOfItsPeers(tmp_path: Path, recorder: str) -> None:
    """
    A real C{twistd}: who comes and goes; and one that runs when the server ends.
    """
    told = tmp_path / "told"

    def isTold(line: str) -> bool:
        return told.exists() and line in told.read_text().splitlines()

    visitors = await begin(tmp_path / "state", "--on-change", recorder)
    bob = await visitors.logIn("bob")
    # Its address is nobody's business: it does not publish it.
    await until(lambda: isTold("arrived bob "), "arrived")
    await visitors.logIn("carol")
    await until(lambda: isTold("arrived carol "), "arrived")
    await bob.close()
    await visitors.logIn("slow")
    await until(lambda: (tmp_path / "slow").exists(), "begun")
    await served(visitors)
    assert not isAlive(int((tmp_path / "slow").read_text()))
    assert "left" not in told.read_text()
    # After a restart all are told anew, and who does not come back has gone.
    kept = sorted(path.name for path in (tmp_path / "state/on-change").iterdir())
    assert kept == ["peer-bob", "peer-carol", "peer-slow"]


@ensureDeferred
async def test_theServerGoesOnWhateverTheCommandDoes(tmp_path: Path) -> None:
    command = script(tmp_path / "bad", "yes >&2 & yes; exit 3")
    visitors = await begin(tmp_path / "state", "--on-change", command, "--on-change-deadline", "20")
    for number in range(20):
        await visitors.logIn(f"peer{number}")
    await until(lambda: "said more than 1 MiB" in visitors.server.log, "ended")
    assert await visitors.works()
    await sleep(3)
    assert await visitors.works()
    assert len(re.findall("it will be tried again", visitors.server.log)) == 1
    await served(visitors)


@ensureDeferred
async def test_aPeerTellsOfItselfAndOfItsPaths(tmp_path: Path) -> None:
    told = tmp_path / "told"

    def isTold(line: str) -> bool:
        return told.exists() and line in told.read_text().splitlines()

    server = Server(tmp_path / "server")
    join = str(await server.start())
    alice = Peer("alice", tmp_path / "alice", [f"--server={join}"])
    bob = Peer("bob", tmp_path / "bob", [f"--server={join}"])
    alice.trust(bob)
    bob.trust(alice)
    record = script(
        tmp_path / "record",
        f"echo $PUNCHD_SUBJECT $PUNCHD_EVENT $PUNCHD_PEER $PUNCHD_ADDRESS $PUNCHD_PATH >>{told}",
    )
    await alice.start("--on-change", record)
    await bob.start()
    await until(lambda: isTold("self arrived alice 127.0.0.1"), "told of itself")
    assert (await alice.punchd("ping", "bob")).status == 0
    await until(lambda: isTold("link arrived bob direct"), "told of the path")
    await bob.stop()
    await until(lambda: isTold("link left bob none"), "told of the loss")
    # Without its server it has the address that it had.
    await server.stop()
    await sleep(2)
    await alice.stop()
    assert told.read_text().splitlines() == [
        "self arrived alice 127.0.0.1",
        "link arrived bob direct",
        "link left bob none",
    ]
    assert "Traceback" not in alice.log
    assert list((tmp_path / "alice/on-change").iterdir()) == []


@ensureDeferred
async def test_wrongUsageIsSaidAtOnce(tmp_path: Path) -> None:
    server = Server(tmp_path / "state", ("--on-change", "tell 'bob"))
    with pytest.raises(AssertionError, match="cannot be split into words: no closing quotation"):
        await server.start()
