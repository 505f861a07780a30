"""
What a peer remembers of introductions: between which kinds of NAT which strategy worked, and which
did not. It decides only in which order the peer, as a caller, offers its strategies; whether one
applies at all is the plan's business.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from attrs import define, evolve, field, frozen
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from punchd.errors import ConfigurationError
from punchd.identity.folder import StateFolder
from punchd.peer.punching import Punch
from punchd.values.outcomes import Outcome, Result
from punchd.values.parties import Party
from punchd.values.peers import PeerID

_log = Logger()

_FILE = "experience.json"
_VERSION = 1

#: Pairs of kinds, and peers, that are remembered; for more, those that were not met for longest go.
MOST_PAIRS = 256
MOST_PEERS = 1024

#: After how many failures in a row a strategy is put last, and for how many seconds.
FAILURES = 2
DEMOTED = 3600.0

#: A strategy that has run this long when another one wins has not worked: it had its chance.
OVERTAKEN = 1.0

#: Seconds between a change and its being written: many introductions make one write.
WRITE_DELAY = 10.0

# What is not of ours is not read: each entry takes a few hundred bytes.
_LARGEST_FILE = 1 << 20

# What reading a file may raise that this version has not written; C{1e999} is a number to JSON.
_BROKEN = (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError)


@frozen
class Lesson:
    """
    What is known of one pair of kinds.

    @ivar worked: the strategy that won last, after those before it had failed.
    @ivar failures: in a row, by strategy.
    @ivar failedAt: when the last one was, in seconds of the wall clock.
    """

    worked: str | None = None
    failures: tuple[tuple[str, int], ...] = ()
    failedAt: float = 0.0

    def after(self, failed: Iterable[str], won: str | None, now: float) -> Lesson:
        """
        The lesson with one introduction more.
        """
        counts = dict(self.failures)
        failed = [name for name in failed if name != won]
        for name in failed:
            counts[name] = counts.get(name, 0) + 1
        if won is not None:
            counts.pop(won, None)
        worked = won if won is not None else self.worked
        if worked in failed:
            worked = None
        return Lesson(worked, tuple(sorted(counts.items())), now if failed else self.failedAt)

    def ordered(self, names: Sequence[str], now: float) -> list[str]:
        """
        C{names} with what worked first, and what failed again and again last.
        """
        isFresh = now - self.failedAt < DEMOTED
        demoted = {name for name, count in self.failures if count >= FAILURES and isFresh}

        def rank(name: str) -> int:
            return 0 if name == self.worked else 2 if name in demoted else 1

        return sorted(names, key=rank)


@define(eq=False)
class Experience:
    """
    One peer's memory, kept in its state folder. What is in the file there is a hint and no more: a
    file that is broken is reported and begun anew.

    @ivar _now: the wall clock, as what is remembered outlives the process.
    """

    _folder: StateFolder
    _clock: IReactorTime
    _now: Callable[[], float]
    _lessons: dict[str, Lesson] = field(factory=dict)
    _kinds: dict[str, str] = field(factory=dict)
    _writing: IDelayedCall | None = field(default=None, init=False)

    @classmethod
    def inFolder(
        cls, folder: StateFolder, clock: IReactorTime, now: Callable[[], float]
    ) -> Experience:
        """
        What the peer of C{folder} remembers.
        """
        try:
            content = folder.read(_FILE)
        except ConfigurationError as error:
            _log.warn("begins without experience: {error}", error=error)
            content = None
        if content is None:
            return cls(folder, clock, now)
        try:
            lessons, kinds = _parse(content)
        except _BROKEN as error:
            _log.warn(
                "begins without experience: {path} is not what this version writes ({error!r:.80})",
                path=str(folder.file(_FILE)),
                error=error,
            )
            return cls(folder, clock, now)
        return cls(folder, clock, now, lessons, kinds)

    def order(self, own: Party, peerID: PeerID, names: Sequence[str]) -> list[str]:
        """
        In which order to offer strategies to a peer.

        @param own: what is known of this side.
        """
        kind = self._kinds.get(str(peerID))
        lesson = None if kind is None else self._lessons.get(f"{_kindOf(own)} {kind}")
        return list(names) if lesson is None else lesson.ordered(names, self._now())

    def learn(self, punch: Punch) -> None:
        """
        An introduction is over.
        """
        own, other = punch.situation.caller, punch.situation.callee
        if other is not punch.other:
            own, other = other, own
        kind = _kindOf(other)
        _remember(self._kinds, str(punch.ticket.expected), kind, MOST_PEERS)
        starts = {planned.strategy: planned.start for planned in punch.plan.attempts}
        # A connection that came in may belong to none of the plan.
        won = punch.wonBy if punch.wonBy in starts else None
        failed = [outcome.strategy for outcome in punch.outcomes if _hasFailed(outcome)]
        if won is not None:
            # Whoever started after the winner had less of a chance.
            failed = [name for name in failed if starts.get(name, 0.0) <= starts[won]]
        pair = f"{_kindOf(own)} {kind}"
        before = self._lessons.get(pair, Lesson())
        lesson = before.after(failed, won, self._now())
        _remember(self._lessons, pair, lesson, MOST_PAIRS)
        if lesson != before and self._writing is None:
            self._writing = self._clock.callLater(WRITE_DELAY, self._write)

    def close(self) -> None:
        """
        Write what is not written yet.
        """
        if self._writing is not None:
            self._writing.cancel()
            self._write()

    def _write(self) -> None:
        self._writing = None
        table = {
            "version": _VERSION,
            "pairs": {
                pair: {
                    "worked": lesson.worked,
                    "failures": dict(lesson.failures),
                    "failedAt": lesson.failedAt,
                }
                for pair, lesson in self._lessons.items()
            },
            "peers": self._kinds,
        }
        try:
            self._folder.write(_FILE, json.dumps(table, indent=1).encode("ascii") + b"\n")
        except ConfigurationError as error:
            _log.warn("does not remember what worked: {error}", error=error)


def _kindOf(party: Party) -> str:
    nat = party.offer.nat
    if party.hasNoNat:
        return f"none/{nat.kind}"
    # Which port a NAT gives matters where it is not the same for everybody.
    return (nat if nat.isSymmetric else evolve(nat, allocation=None)).kind


def _hasFailed(outcome: Outcome) -> bool:
    if outcome.result is Result.CANCELLED:
        return outcome.seconds >= OVERTAKEN
    return outcome.result is not Result.CONNECTED


def _remember(memory: dict[str, Any], key: str, value: object, most: int) -> None:
    memory.pop(key, None)
    memory[key] = value
    if len(memory) > most:
        del memory[next(iter(memory))]


def _parse(content: bytes) -> tuple[dict[str, Lesson], dict[str, str]]:
    if len(content) > _LARGEST_FILE:
        raise ValueError(f"{len(content)} bytes")
    table = json.loads(content)
    if table["version"] != _VERSION:
        raise ValueError(f"version {table['version']!r:.20}")
    lessons = {
        str(pair): Lesson(
            None if one["worked"] is None else str(one["worked"]),
            tuple(sorted((str(name), int(count)) for name, count in one["failures"].items())),
            float(one["failedAt"]),
        )
        for pair, one in list(table["pairs"].items())[-MOST_PAIRS:]
    }
    kinds = {str(peer): str(kind) for peer, kind in list(table["peers"].items())[-MOST_PEERS:]}
    return lessons, kinds
