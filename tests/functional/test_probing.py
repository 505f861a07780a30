"""
Tests for L{punchd.net.probing}, on real sockets of the loopback interface.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred
from twisted.internet.interfaces import IReadWriteDescriptor
from zope.interface.verify import verifyObject

from punchd.net import probing
from punchd.net.probing import Prober
from punchd.values.addresses import makeAddress
from punchd.values.probes import Answer, Finding


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def probeAt(host: str, port: int, **changes: object) -> object:
    from twisted.internet import reactor

    arguments: dict[str, object] = {"patience": 5.0, **changes}
    return Prober(reactor).probe(makeAddress(host, port), **arguments)  # type: ignore[arg-type]


@ensureDeferred
async def test_whoListensIsConnected(listening: socket.socket) -> None:
    found: Finding = await probeAt(*listening.getsockname())  # type: ignore[misc]
    assert found.answer is Answer.CONNECTED
    assert 0 <= found.seconds < 5.0
    accepted, _ = listening.accept()
    with accepted, pytest.raises(ConnectionResetError):
        accepted.recv(1)


@ensureDeferred
async def test_itDialsFromTheAddressThatItIsTold(listening: socket.socket) -> None:
    port = listening.getsockname()[1]
    await probeAt("127.0.0.1", port, here="127.0.0.3")  # type: ignore[misc]
    accepted, (host, _) = listening.accept()
    accepted.close()
    assert host == "127.0.0.3"


@ensureDeferred
async def test_whereNobodyListensAResetComes() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        found: Finding = await probeAt(*bound.getsockname())  # type: ignore[misc]
    assert found.answer is Answer.RESET
    assert found.router is None


@ensureDeferred
async def test_whereNothingAnswersTimeIsUp() -> None:
    """
    A backlog that is full makes the kernel drop SYNs.
    """
    with socket.socket() as full, socket.socket() as one, socket.socket() as two:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filling in (one, two):
            filling.setblocking(False)
            filling.connect_ex(full.getsockname())
        found: Finding = await probeAt(*full.getsockname(), patience=0.2)  # type: ignore[misc]
    assert found.answer is Answer.SILENCE
    assert found.seconds == pytest.approx(0.2, abs=0.1)


@ensureDeferred
async def test_anAddressThatIsNotOursCannotBeDialledFrom(listening: socket.socket) -> None:
    port = listening.getsockname()[1]
    found: Finding = await probeAt("127.0.0.1", port, here="192.0.2.1")  # type: ignore[misc]
    assert found.answer is Answer.UNREACHABLE


@ensureDeferred
async def test_whatIsNoAddressToDialIsUnreachable() -> None:
    found: Finding = await probeAt("224.0.0.1", 80)  # type: ignore[misc]
    assert found.answer is Answer.UNREACHABLE


@ensureDeferred
async def test_aCancelledProbeLeavesNothing() -> None:
    """
    The guard of all tests looks for sockets and delayed calls that are left.
    """
    with socket.socket() as full, socket.socket() as one, socket.socket() as two:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filling in (one, two):
            filling.setblocking(False)
            filling.connect_ex(full.getsockname())
        probing = probeAt(*full.getsockname())
        results: list[object] = []
        probing.addErrback(results.append)  # type: ignore[attr-defined]
        probing.cancel()  # type: ignore[attr-defined]
    assert results


def entry(origin: int, kind: int, code: int, router: str) -> bytes:
    """
    An entry of the error queue, as the kernel makes it.
    """
    head = struct.pack("=IBBBBII", errno.EHOSTUNREACH, origin, kind, code, 0, 0, 0)
    return head + struct.pack("=HH", socket.AF_INET, 0) + socket.inet_aton(router) + bytes(8)


@pytest.mark.parametrize(
    ("kind", "code", "router", "answer"),
    [
        (3, 3, "192.0.2.1", Answer.ICMP),
        (3, 13, "192.0.2.254", Answer.ICMP),
        (3, 1, "192.0.2.1", Answer.ICMP),
        (3, 1, "192.0.2.254", Answer.UNREACHABLE),
        (3, 0, "192.0.2.254", Answer.UNREACHABLE),
        (11, 0, "192.168.0.1", Answer.EXPIRED),
    ],
)
def test_icmpMessagesAreRead(kind: int, code: int, router: str, answer: Answer) -> None:
    found = probing._meaning(socket.AF_INET, entry(2, kind, code, router), "192.0.2.1")
    assert found == (answer, router)


def test_errorsOfTheHostItselfAreNoMessages() -> None:
    assert probing._meaning(socket.AF_INET, entry(1, 3, 3, "0.0.0.0"), "192.0.2.1") is None


@given(st.sampled_from([socket.AF_INET, socket.AF_INET6]), st.binary(max_size=60))
def test_anythingInTheQueueIsSurvived(family: socket.AddressFamily, content: bytes) -> None:
    found = probing._meaning(family, content, "192.0.2.1")
    assert found is None or isinstance(found[0], Answer)


def test_itIsADescriptor() -> None:
    with socket.socket() as some:
        verifyObject(IReadWriteDescriptor, probing._Syn(None, some, socket.AF_INET, "192.0.2.1"))
