"""
The relay, over real sockets.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from random import Random
from typing import Any

import pytest
import pytest_twisted
from pytest_twisted import ensureDeferred
from twisted.internet.error import ConnectionLost

from punchd.server import relaycarrying
from punchd.server.gate import CLOSING_PATIENCE
from punchd.server.relay import OPENING_PATIENCE, REFUSALS_AT_ONCE, REFUSALS_PER_SECOND
from punchd.server.relaycarrying import MOST_AT_ONCE
from punchd.server.relaylimits import BREATH, WINDOW, Bound, RelayLimits
from punchd.server.relaypairs import (
    IDLE_PATIENCE,
    MEETING_PATIENCE,
    TELLING_PATIENCE,
    WORTH_TELLING,
)
from punchd.server.relaypipes import Pipes
from punchd.server.relaytokens import LIFETIME
from punchd.wire.commands import RelayNote
from punchd.wire.relaying import Opening
from tests.functional.relays import ACCEPTED, End, Relaying, sleep, until
from tests.unit.server.pretending import lineOf

BULK = Random(7).randbytes(8_000_000)

Makes = Callable[..., Relaying]


@pytest_twisted.async_yield_fixture
async def relaying() -> AsyncIterator[Makes]:
    """
    Makes relays, which are closed at the end.
    """
    made: list[Relaying] = []

    def make(**arguments: Any) -> Relaying:
        made.append(Relaying(**arguments))
        return made[-1]

    yield make
    for one in made:
        await one.close()
        assert one.pipes.lent == 0
        assert len(one.pairs) == 0
        one.advance(2 * WINDOW)
        assert len(one.accounts) == 0


@pytest.fixture(params=["splice", "copying", "splice refused"])
def moving(
    request: pytest.FixtureRequest, relaying: Makes, monkeypatch: pytest.MonkeyPatch
) -> Relaying:
    """
    A relay, for each way of moving bytes.
    """
    if request.param == "splice refused":

        def refuse(*arguments: object, **named: object) -> int:
            raise OSError(errno.EINVAL, "Invalid argument")

        monkeypatch.setattr(os, "splice", refuse)
    return relaying(pipes=Pipes(0 if request.param == "copying" else 4))


def isReset(end: End) -> bool:
    """
    Whether an end's connection has ended, and not in order.
    """
    lost = end.lost
    return lost is not None and not end.inputEnded and lost.check(ConnectionLost) is not None


def isGone(end: End) -> bool:
    """
    Whether an end's connection has broken, even if the other side had said its last before.
    """
    return end.lost is not None and end.lost.check(ConnectionLost) is not None


class TestCarrying:
    @ensureDeferred
    async def test_whatOneEndSaysComesOutAtTheOther(self, moving: Relaying) -> None:
        alice, bob = await moving.path()
        alice.transport.write(b"hello bob")
        await until(lambda: bob.said == b"hello bob")
        bob.transport.write(b"hello alice")
        await until(lambda: alice.said == b"hello alice")
        assert moving.pipes.lent == 0

    @ensureDeferred
    async def test_muchBothWaysAtOnceLosesNothing(self, moving: Relaying) -> None:
        alice, bob = await moving.path()
        alice.transport.write(BULK)
        bob.transport.write(BULK[::-1])
        await until(lambda: len(alice.said) == len(bob.said) == len(BULK))
        assert sha256(bob.said).digest() == sha256(BULK).digest()
        assert sha256(alice.said).digest() == sha256(BULK[::-1]).digest()
        assert moving.pipes.lent == 0

    @pytest.mark.parametrize("order", [(0, 1), (1, 0)])
    @ensureDeferred
    async def test_eitherMayComeFirst(self, relaying: Makes, order: tuple[int, int]) -> None:
        relay = relaying()
        tokens = relay.introduce()
        first = await relay.show(tokens[order[0]])
        await sleep(0.05)
        assert not first.received
        second = await relay.show(tokens[order[1]])
        await until(lambda: first.isAccepted and second.isAccepted)

    @ensureDeferred
    async def test_oneEndMaySayItsLastAndTheOtherGoOn(self, moving: Relaying) -> None:
        alice, bob = await moving.path()
        alice.transport.write(BULK)
        alice.transport.loseWriteConnection()
        await until(lambda: bob.inputEnded)
        assert bob.said == BULK
        bob.transport.write(b"thanks")
        await until(lambda: alice.said == b"thanks")
        assert alice.lost is None
        bob.transport.loseConnection()
        await until(lambda: alice.inputEnded)
        await until(lambda: len(moving.pairs) == 0)
        assert "both have said all" in moving.watcher.steps[-1]

    @ensureDeferred
    async def test_theLastBytesOutliveTheEndOfBoth(self, moving: Relaying) -> None:
        alice, bob = await moving.path(room=65536)
        bob.transport.pauseProducing()
        bob.transport.loseWriteConnection()
        alice.transport.write(BULK[:1_000_000])
        alice.transport.loseConnection()
        await sleep(0.1)
        bob.transport.resumeProducing()
        await until(lambda: bob.inputEnded)
        assert bob.said == BULK[:1_000_000]
        await until(lambda: len(moving.pairs) == 0)

    @ensureDeferred
    async def test_aResetIsAResetForTheOther(self, moving: Relaying) -> None:
        alice, bob = await moving.path()
        alice.transport.abortConnection()
        await until(lambda: bob.isOver)
        assert isReset(bob)

    @ensureDeferred
    async def test_anEndThatIsKilledIsAResetForWhoWritesOn(self, moving: Relaying) -> None:
        alice, bob = await moving.path()
        # What the kernel does for a process that is killed; nobody reads there any more.
        alice.transport.loseConnection()
        await until(lambda: bob.inputEnded)
        bob.transport.write(b"are you there?")
        await sleep(0.1)
        moving.advance(1)
        await until(lambda: len(moving.pairs) == 0)
        await sleep(0.05)
        bob.transport.write(b"hello?")
        await until(lambda: isGone(bob))

    @ensureDeferred
    async def test_anEndThatBreaksWhileTheOtherWritesIsNoticed(self, moving: Relaying) -> None:
        alice, bob = await moving.path()
        bob.transport.pauseProducing()
        alice.transport.write(BULK)
        await sleep(0.1)
        bob.transport.abortConnection()
        await until(lambda: alice.isOver)
        assert isReset(alice)

    @ensureDeferred
    async def test_whoDoesNotReadHoldsTheOtherBack(self, moving: Relaying) -> None:
        alice, bob = await moving.path(room=65536)
        bob.transport.pauseProducing()
        alice.transport.write(BULK)
        left = -1
        while left != len(alice.transport._tempDataBuffer) + len(alice.transport.dataBuffer):
            left = len(alice.transport._tempDataBuffer) + len(alice.transport.dataBuffer)
            await sleep(0.3)
        # It is known how much a pipe and a buffer take; the kernel's own share is its own affair.
        [pair] = moving.pairs._byMeeting.values()
        assert pair._carrying is not None
        for way in pair._carrying._ways:
            assert len(way.kept) <= len(relaycarrying._BUFFER)
            assert way._pipe is None or way._pipe.holds <= MOST_AT_ONCE
        assert moving.pipes.lent <= 1
        moved = pair._carrying.count
        await sleep(0.3)
        assert pair._carrying.count == moved < len(BULK)
        # Nobody else is held back.
        carol = moving.logIn(3, "carol")
        one, two = await moving.path(carol)
        one.transport.write(BULK)
        await until(lambda: two.said == BULK)
        bob.transport.resumeProducing()
        await until(lambda: bob.said == BULK)
        assert moving.pipes.lent == 0

    @ensureDeferred
    async def test_withoutAPipeLeftOthersGoOn(self, relaying: Makes) -> None:
        relay = relaying(pipes=Pipes(1))
        stuck, reader = await relay.path(room=65536)
        reader.transport.pauseProducing()
        stuck.transport.write(BULK)
        await until(lambda: relay.pipes.lent == 1)
        one, two = await relay.path()
        one.transport.write(BULK)
        await until(lambda: two.said == BULK)
        reader.transport.resumeProducing()
        await until(lambda: reader.said == BULK)

    @ensureDeferred
    async def test_onePathDoesNotTakeMoreThanItsTurn(
        self, relaying: Makes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        counts: list[int] = []
        real = os.splice

        def splice(*arguments: Any, **named: Any) -> int:
            counts.append(arguments[2])
            return real(*arguments, **named)

        monkeypatch.setattr(os, "splice", splice)
        relay = relaying()
        alice, bob = await relay.path()
        alice.transport.write(BULK * 4)
        await until(lambda: len(bob.received) == len(ACCEPTED) + 4 * len(BULK))
        assert counts
        assert max(counts) <= MOST_AT_ONCE

    @ensureDeferred
    async def test_whatIsRelayedIsTold(self, relaying: Makes) -> None:
        relay = relaying()
        alice, bob = await relay.path()
        alice.transport.write(b"x" * 100)
        await until(lambda: len(bob.said) == 100)
        relay.clock.advance(2)
        alice.transport.abortConnection()
        await until(lambda: bob.isOver)
        assert relay.watcher.steps == [
            "relays between alice and bob",
            "has relayed 100 bytes between alice and bob in 2.0 s: one of them is gone",
        ]


class TestTokens:
    @ensureDeferred
    async def test_aTokenIsGoodOnce(self, relaying: Makes) -> None:
        relay = relaying()
        one, two = relay.introduce()
        alice = await relay.show(one)
        await until(lambda: len(relay.pairs) == 1)
        thief = await relay.show(one)
        await until(lambda: thief.isOver)
        assert "used, too old or forged" in thief.refusal
        bob = await relay.show(two)
        await until(lambda: alice.isAccepted and bob.isAccepted)
        late = await relay.show(two)
        await until(lambda: late.isOver)
        assert "used, too old or forged" in late.refusal
        alice.transport.write(b"still")
        await until(lambda: bob.said == b"still")

    @ensureDeferred
    async def test_thoseOfTwoIntroductionsDoNotMeet(self, relaying: Makes) -> None:
        relay = relaying()
        [one, _], [_, other] = relay.introduce(), relay.introduce()
        ends = [await relay.show(one), await relay.show(other)]
        await until(lambda: len(relay.pairs) == 2)
        await sleep(0.05)
        assert not any(end.received for end in ends)

    @ensureDeferred
    async def test_aForgedOneAndAnOldOneAreRefused(self, relaying: Makes) -> None:
        relay = relaying()
        one, _ = relay.introduce()
        relay.advance(LIFETIME)
        for token in (one, b"f" * 16):
            end = await relay.show(token)
            await until(lambda end=end: end.isOver)
            assert "used, too old or forged" in end.refusal
        assert len(relay.journal.texts) == 2


class TestStrangers:
    @pytest.mark.parametrize("said", [b"GET / HTTP/1.1", b"PUNCHA\x01\x00", b"\xff", bytes(100)])
    @ensureDeferred
    async def test_garbageEndsTheConnectionAtOnce(self, relaying: Makes, said: bytes) -> None:
        relay = relaying()
        end = await relay.dial(said)
        await until(lambda: end.isOver)
        assert not end.received
        assert "this is not the relay protocol" in relay.journal.texts[0]

    @ensureDeferred
    async def test_anotherVersionIsToldOurs(self, relaying: Makes) -> None:
        relay = relaying()
        end = await relay.dial(b"PUNCHR\x07")
        await until(lambda: end.isOver)
        assert end.received.startswith(b"PUNCHR\x01")
        assert "version 7" in end.refusal
        assert "version 1" in end.refusal

    @ensureDeferred
    async def test_anOpeningMayComeByteByByte(self, relaying: Makes) -> None:
        relay = relaying()
        one, two = relay.introduce()
        alice, bob = await relay.dial(), await relay.show(two)
        for byte in Opening(one).pack():
            alice.transport.write(bytes([byte]))
            await sleep(0.002)
        await until(lambda: alice.isAccepted and bob.isAccepted)

    @ensureDeferred
    async def test_butNotForEver(self, relaying: Makes) -> None:
        relay = relaying()
        one, _ = relay.introduce()
        end = await relay.dial(Opening(one).pack()[:-1])
        await sleep(0.02)
        relay.advance(OPENING_PATIENCE - 1)
        await sleep(0.02)
        assert end.lost is None
        relay.advance(1)
        await until(lambda: end.isOver)
        assert "no whole opening within 5 s" in relay.journal.texts[0]

    @pytest.mark.parametrize("pause", [False, True])
    @ensureDeferred
    async def test_whoSpeaksBeforeTheAnswerIsCutOff(self, relaying: Makes, pause: bool) -> None:
        relay = relaying()
        one, two = relay.introduce()
        alice = await relay.dial(Opening(one).pack() + (b"" if pause else b"early"))
        if pause:
            await until(lambda: len(relay.pairs) == 1)
            alice.transport.write(b"early")
        await until(lambda: alice.isOver)
        if pause:
            bob = await relay.show(two)
            await until(lambda: bob.isOver)
            assert "has gone" in bob.refusal

    @ensureDeferred
    async def test_oneAddressHasSoManyThatHaveNotShownAToken(self, relaying: Makes) -> None:
        relay = relaying(mostStrangers=3)
        strangers = [await relay.dial() for _ in range(3)]
        await sleep(0.02)
        fourth = await relay.dial(Opening(b"t" * 16).pack())
        await until(lambda: fourth.isOver)
        assert "have not said who they are" in relay.journal.texts[0]
        assert "have not said who they are" in fourth.refusal
        for stranger in strangers[:2]:
            stranger.transport.loseConnection()
        await sleep(0.05)
        one, two = await relay.path()
        # They are strangers no longer, so there is a place again.
        late = await relay.dial()
        await sleep(0.02)
        assert late.lost is one.lost is two.lost is None


class TestTurnedAway:
    @ensureDeferred
    async def test_aFloodIsClosedWithoutAWord(self, relaying: Makes) -> None:
        relay = relaying(mostStrangers=1)
        first = await relay.dial()
        flood = [await relay.dial() for _ in range(int(REFUSALS_AT_ONCE) + 30)]
        await until(lambda: sum(end.isOver for end in flood) == 30)
        told = [end for end in flood if end.received]
        assert len(told) == REFUSALS_AT_ONCE
        # Who says nothing is not waited for.
        relay.advance(CLOSING_PATIENCE)
        await until(lambda: all(end.isOver for end in flood))
        assert first.lost is None
        relay.advance(1 / REFUSALS_PER_SECOND)
        again = await relay.dial(b"PUNCHR")
        await until(lambda: again.isOver)
        assert "have not said who they are" in again.refusal

    @ensureDeferred
    async def test_whoIsTurnedAwayDoesNotHoldUpTheServersEnd(self, relaying: Makes) -> None:
        relay = relaying(mostStrangers=1)
        ends = [await relay.dial() for _ in range(2)]
        await until(lambda: ends[1].received)
        await relay.gate.showOut("the server ends")
        await until(lambda: all(end.isOver for end in ends))

    @ensureDeferred
    async def test_manyPiecesOfAnOpeningAreNoMatter(self, relaying: Makes) -> None:
        relay = relaying(mostStrangers=1)
        await relay.dial()
        end = await relay.dial()
        await until(lambda: end.received)
        for byte in Opening(b"t" * 16).pack():
            end.transport.write(bytes([byte]))
            await sleep(0)
        await until(lambda: end.isOver)
        assert "have not said who they are" in end.refusal
        assert len(relay.tokens) == 0


class TestMeeting:
    @ensureDeferred
    async def test_whoWaitsInVainIsToldSo(self, relaying: Makes) -> None:
        relay = relaying()
        one, two = relay.introduce()
        alice = await relay.show(one)
        await until(lambda: len(relay.pairs) == 1)
        relay.advance(MEETING_PATIENCE)
        await until(lambda: alice.isOver)
        assert "has not come to the relay for 20 s" in alice.refusal
        bob = await relay.show(two)
        await until(lambda: bob.isOver)
        assert "the other peer has waited at the relay" in bob.refusal

    @ensureDeferred
    async def test_whoComesAfterTheOtherHasGoneIsToldSo(self, relaying: Makes) -> None:
        relay = relaying()
        one, two = relay.introduce()
        alice = await relay.show(one)
        await until(lambda: len(relay.pairs) == 1)
        alice.transport.loseConnection()
        await until(lambda: len(relay.pairs) == 0)
        bob = await relay.show(two)
        await until(lambda: bob.isOver)
        assert "the other peer was at the relay, and has gone" in bob.refusal

    @ensureDeferred
    async def test_whoWaitsWhenTheServerEndsIsToldSo(self, relaying: Makes) -> None:
        relay = relaying()
        waiting = await relay.show(relay.introduce()[0])
        await until(lambda: len(relay.pairs) == 1)
        one, two = await relay.path()
        closing = relay.gate.showOut("the server ends")
        await closing
        await until(lambda: all(end.isOver for end in relay.ends))
        assert waiting.refusal == "the server ends"
        assert isReset(one)
        assert isReset(two)


def notes(relay: Relaying) -> list[dict[str, Any]]:
    """
    What both peers were told of the relay, which must be the same.
    """
    one, two = (lineOf(peer).heard(RelayNote) for peer in (relay.alice, relay.bob))
    assert one == two
    return one


class TestLimits:
    @pytest.mark.parametrize(
        ("bound", "who"), [(Bound(1, None), "alice"), (Bound(None, 1), "all peers together")]
    )
    @ensureDeferred
    async def test_soManyPathsAtATime(self, relaying: Makes, bound: Bound, who: str) -> None:
        relay = relaying(limits=RelayLimits(paths=bound))
        first, _ = await relay.path()
        carol = relay.logIn(3, "carol")
        ends = [await relay.show(token) for token in relay.introduce(callee=carol)]
        await until(lambda: all(end.isOver for end in ends))
        for end in ends:
            assert f"{who} may have 1 relayed paths at a time" in end.refusal
        first.transport.abortConnection()
        await until(lambda: len(relay.pairs) == 0)
        await relay.path(callee=carol)

    @ensureDeferred
    async def test_anEndThatWaitsHoldsAPlace(self, relaying: Makes) -> None:
        relay = relaying(limits=RelayLimits(paths=Bound(1, None)))
        waiting = await relay.show(relay.introduce()[0])
        await until(lambda: len(relay.pairs) == 1)
        end = await relay.show(relay.introduce()[0])
        await until(lambda: end.isOver)
        relay.advance(MEETING_PATIENCE)
        await until(lambda: waiting.isOver)
        await relay.path()

    @pytest.mark.parametrize(
        ("bound", "who"),
        [(Bound(1_000_000, None), "alice"), (Bound(None, 1_000_000), "all peers together")],
    )
    @ensureDeferred
    async def test_soManyBytes(self, relaying: Makes, bound: Bound, who: str) -> None:
        relay = relaying(limits=RelayLimits(bytes=bound))
        alice, bob = await relay.path()
        alice.transport.write(BULK)
        await until(lambda: notes(relay))
        [note] = notes(relay)
        assert note["ends"]
        assert f"{who} may have 1000000 bytes relayed in 24 hours" in note["reason"]
        # Both were told before the end, and what was counted goes on its way until then.
        assert alice.lost is bob.lost is None
        await until(lambda: len(bob.said) >= 1_000_000)
        for peer in (relay.alice, relay.bob):
            lineOf(peer).answers[-1].callback({})
        await until(lambda: alice.isOver and bob.isOver)
        assert isReset(bob)
        assert len(bob.said) <= 1_000_000 + MOST_AT_ONCE
        # The next path is refused at once, for the same reason, until there is more.
        again = await relay.show(relay.introduce()[0])
        await until(lambda: again.isOver)
        assert who in again.refusal
        relay.advance(WINDOW)
        await relay.path()

    @ensureDeferred
    async def test_aPeerThatDoesNotAnswerHoldsNothingUp(self, relaying: Makes) -> None:
        relay = relaying(limits=RelayLimits(bytes=Bound(1000, None)))
        alice, bob = await relay.path()
        relay.population.leave(relay.bob)
        alice.transport.write(bytes(2000))
        await until(lambda: lineOf(relay.alice).heard(RelayNote))
        relay.advance(TELLING_PATIENCE)
        await until(lambda: alice.isOver and bob.isOver)

    @pytest.mark.parametrize("pipes", [0, 4])
    @pytest.mark.parametrize(
        ("bound", "who"), [(Bound(100_000, None), "alice"), (Bound(None, 100_000), "all peers")]
    )
    @ensureDeferred
    async def test_soManyBytesASecond(
        self, relaying: Makes, bound: Bound, who: str, pipes: int
    ) -> None:
        relay = relaying(limits=RelayLimits(rate=bound), pipes=Pipes(pipes))
        alice, bob = await relay.path()
        alice.transport.write(BULK[:1_000_000])
        steps = 0
        while len(bob.said) < 1_000_000:
            assert steps * BREATH < 12
            steps += 1
            relay.clock.advance(BREATH)
            await sleep(0.002)
        # A quarter of a second's bytes may come at once.
        assert 9.7 <= steps * BREATH <= 11
        assert bob.said == BULK[:1_000_000]
        [note] = notes(relay)
        assert not note["ends"]
        assert f"{who}" in note["reason"]
        assert "may have 100000 bytes a second relayed" in note["reason"]

    @ensureDeferred
    async def test_whatIsSlowForAMomentIsNotToldOf(self, relaying: Makes) -> None:
        relay = relaying(limits=RelayLimits(rate=Bound(100_000, None)))
        alice, bob = await relay.path()
        alice.transport.write(bytes(100_000))
        while len(bob.said) < 100_000:
            relay.clock.advance(BREATH)
            await sleep(0.002)
        assert notes(relay) == []
        assert relay.clock.seconds() <= WORTH_TELLING

    @ensureDeferred
    async def test_soLong(self, relaying: Makes) -> None:
        relay = relaying(limits=RelayLimits(seconds=400.0))
        alice, bob = await relay.path()
        relay.advance(200)
        alice.transport.write(b"x")
        await until(lambda: bob.said == b"x")
        relay.advance(199)
        assert notes(relay) == []
        relay.advance(1)
        [note] = notes(relay)
        assert note["ends"]
        assert "may last 400 s" in note["reason"]
        relay.clock.advance(TELLING_PATIENCE)
        await until(lambda: alice.isOver and bob.isOver)

    @ensureDeferred
    async def test_aPathOnWhichNothingIsSaidIsReaped(self, relaying: Makes) -> None:
        relay = relaying()
        alice, bob = await relay.path()
        relay.advance(IDLE_PATIENCE - 1)
        alice.transport.write(b"x")
        await until(lambda: bob.said == b"x")
        relay.advance(1)
        relay.advance(IDLE_PATIENCE - 1)
        assert notes(relay) == []
        relay.advance(1)
        [note] = notes(relay)
        assert "not a byte came for 300 s" in note["reason"]
        relay.clock.advance(TELLING_PATIENCE)
        await until(lambda: alice.isOver and bob.isOver)

    @ensureDeferred
    async def test_soIsOneWhoseFirstEndHasSaidItsLast(self, relaying: Makes) -> None:
        relay = relaying()
        alice, bob = await relay.path()
        alice.transport.loseWriteConnection()
        await until(lambda: bob.inputEnded)
        relay.advance(1)
        relay.advance(IDLE_PATIENCE)
        relay.clock.advance(TELLING_PATIENCE)
        await until(lambda: alice.isOver and bob.isOver)


@ensureDeferred
async def test_outOfFileDescriptorsThoseWhoAreHereGoOn(relaying: Makes) -> None:
    relay = relaying()
    alice, bob = await relay.path()
    tokens = relay.introduce()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Of the ends that come now, the relay can accept none.
    late = [socket.socket() for _ in tokens]
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    filling = [os.open("/dev/null", os.O_RDONLY) for _ in range(8)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(highest, *filling) + 1, most[1]))
    try:
        while True:
            try:
                filling.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                break
        for one, token in zip(late, tokens, strict=True):
            one.connect(("127.0.0.1", relay.port))
            one.sendall(Opening(token).pack())
        alice.transport.write(BULK)
        await until(lambda: bob.said == BULK)
        assert len(relay.pairs) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, most)
        for number in filling:
            os.close(number)
        for one in late:
            one.close()
    await relay.path()
