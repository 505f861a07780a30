"""
Tests for L{punchd.server.relaypipes}.
"""

import os

import pytest

from punchd.server.relaypipes import Pipe, Pipes
from tests.files import withoutFiles


def taken(pipes: Pipes) -> Pipe:
    pipe = pipes.take()
    assert pipe is not None
    return pipe


def test_soManyAreLent() -> None:
    pipes = Pipes(2)
    one, two = taken(pipes), taken(pipes)
    assert pipes.take() is None
    pipes.give(one)
    assert taken(pipes) is one
    pipes.give(one)
    pipes.give(two)
    assert pipes.lent == 0
    pipes.close()


def test_oneThatHoldsSomethingIsNotLentAgain() -> None:
    pipes = Pipes()
    pipe = taken(pipes)
    pipe.holds = os.write(pipe.writeEnd, b"for somebody else")
    pipes.give(pipe)
    other = taken(pipes)
    assert other is not pipe
    pipes.give(other)
    pipes.close()


def test_aFewAreKeptOpen() -> None:
    before = len(os.listdir("/proc/self/fd"))
    pipes = Pipes()
    for pipe in [taken(pipes) for _ in range(20)]:
        pipes.give(pipe)
    assert len(os.listdir("/proc/self/fd")) - before == 16
    pipes.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_withoutFilesThereAreNone() -> None:
    pipes = Pipes()
    with withoutFiles():
        assert pipes.take() is None
    assert pipes.lent == 0


def test_whereTheSystemHasNoSpliceThereAreNone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "splice")
    assert Pipes().take() is None
