"""
Tests for L{punchd.wire.socks}.
"""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from punchd.errors import ProtocolViolation
from punchd.wire.socks import MOST_MESSAGE, Greeted, Reply, Requested, SocksReader, packReply

GREETING = b"\5\1\0"
WELCOME = Greeted(b"\5\0", True)


def request(name: bytes = b"ssh.bob", port: int = 22, command: int = 1) -> bytes:
    return bytes([5, command, 0, 3, len(name)]) + name + port.to_bytes(2, "big")


def read(data: bytes) -> list[Greeted | Requested]:
    return list(SocksReader().read(data))


def test_aNameIsAskedFor() -> None:
    assert read(GREETING + request()) == [WELCOME, Requested("ssh.bob", 22)]


@pytest.mark.parametrize("methods", [b"\0", b"\0\2", b"\2\1\0", bytes(range(255))])
def test_noAuthenticationIsAmongTheMethods(methods: bytes) -> None:
    assert read(bytes([5, len(methods)]) + methods) == [WELCOME]


@pytest.mark.parametrize("methods", [b"", b"\2", b"\1\2\3"])
def test_whoOffersOnlyOtherMethodsIsNotWelcome(methods: bytes) -> None:
    greeting = bytes([5, len(methods)]) + methods
    assert read(greeting + request()) == [Greeted(b"\5\xff", False)]


@pytest.mark.parametrize("command", [0, 2, 3, 255])
def test_onlyConnectIsTaken(command: int) -> None:
    [_, requested] = read(GREETING + request(command=command))
    assert requested == Requested("", 0, Reply.COMMAND_NOT_SUPPORTED)


@pytest.mark.parametrize("kind", [0, 1, 2, 4, 255])
def test_onlyNamesAreTaken(kind: int) -> None:
    [_, requested] = read(GREETING + bytes([5, 1, 0, kind]))
    assert requested == Requested("", 0, Reply.ADDRESS_NOT_SUPPORTED)


@pytest.mark.parametrize("first", [b"\4\1\0\x16", b"GET / HTTP/1.1\r\n", b"\0"])
def test_otherProtocolsAreViolations(first: bytes) -> None:
    with pytest.raises(ProtocolViolation, match="SOCKS 5 is spoken here"):
        read(first)
    with pytest.raises(ProtocolViolation):
        read(GREETING + first)


@given(
    st.binary(min_size=1, max_size=255),
    st.integers(0, 65535),
    st.binary(max_size=40),
    st.lists(st.integers(0, 320), max_size=8),
)
def test_itDoesNotMatterHowItIsCut(name: bytes, port: int, rest: bytes, cuts: list[int]) -> None:
    whole = GREETING + request(name, port) + rest
    reader = SocksReader()
    found: list[Greeted | Requested] = []
    at = 0
    for cut in [*sorted(cuts), len(whole)]:
        found += reader.read(whole[at:cut])
        at = max(at, cut)
    assert found == [WELCOME, Requested(name.decode("utf-8", "replace"), port)]
    assert reader.rest == rest


@given(st.lists(st.binary(max_size=50), max_size=12))
def test_anythingIsReadOrAViolation(pieces: list[bytes]) -> None:
    reader = SocksReader()
    found: list[Greeted | Requested] = []
    with suppress(ProtocolViolation):
        for piece in pieces:
            found += reader.read(piece)
            isDone = len(found) == 2 or any(
                isinstance(one, Greeted) and not one.isWelcome for one in found
            )
            if isDone:
                break
            assert len(reader.rest) < MOST_MESSAGE + len(piece)
    assert len(found) <= 2


def test_anAnswerHasNoAddress() -> None:
    assert packReply(Reply.SUCCEEDED) == b"\5\0\0\1\0\0\0\0\0\0"
    assert packReply(Reply.REFUSED) == b"\5\5\0\1\0\0\0\0\0\0"
