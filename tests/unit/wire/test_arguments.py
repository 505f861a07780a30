"""
Tests for L{punchd.wire.arguments}.
"""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from punchd.errors import ConfigurationError, ProtocolViolation
from punchd.values.addresses import Address
from punchd.values.nat import Mapping
from punchd.values.peers import PeerID
from punchd.wire.arguments import (
    ID,
    Blob,
    Few,
    IDs,
    Line,
    Name,
    ServicePort,
    StrategyVersion,
    Where,
    Word,
)
from tests.unit.values.addressing import ADDRESSES

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True)
PEER_IDS = st.builds(PeerID, st.binary(min_size=32, max_size=32))


@given(NAMES)
def test_aNameArrives(name: str) -> None:
    assert Name().fromString(Name().toString(name)) == name


@given(PEER_IDS)
def test_anIDArrives(peerID: PeerID) -> None:
    assert ID().fromString(ID().toString(peerID)) == peerID


@given(st.frozensets(PEER_IDS, max_size=20))
def test_manyIDsArrive(peerIDs: frozenset[PeerID]) -> None:
    assert IDs().fromString(IDs().toString(peerIDs)) == peerIDs


@given(ADDRESSES)
def test_anAddressArrives(address: Address) -> None:
    assert Where().fromString(Where().toString(address)) == address


@given(st.lists(ADDRESSES, max_size=8))
def test_aListArrives(addresses: list[Address]) -> None:
    few = Few(Where(), 8)
    assert few.fromString(few.toString(addresses)) == addresses


@given(st.tuples(NAMES, st.integers(0, 9999)))
def test_aStrategyArrives(strategy: tuple[str, int]) -> None:
    assert StrategyVersion().fromString(StrategyVersion().toString(strategy)) == strategy


@given(st.tuples(NAMES, st.integers(1, 65535)))
def test_aServiceAndItsPortArrive(service: tuple[str, int]) -> None:
    assert ServicePort().fromString(ServicePort().toString(service)) == service


@pytest.mark.parametrize("packed", [b"web", b"web/", b"web/0", b"web/65536", b"web/x", b"/80"])
def test_aBadServiceOrPortIsAViolation(packed: bytes) -> None:
    with pytest.raises(ProtocolViolation, match="a bad"):
        ServicePort().fromString(packed)


@pytest.mark.parametrize("mapping", Mapping)
def test_aMappingArrives(mapping: Mapping) -> None:
    assert Word(Mapping).fromString(Word(Mapping).toString(mapping)) is mapping


def test_anUnknownMappingIsNone() -> None:
    assert Word(Mapping).fromString(b"XYZM") is None


@given(st.text())
def test_aLineIsPrintableAndShortWhateverIsSent(text: str) -> None:
    line = Line().fromString(text.encode("utf-8", "replace"))
    assert line.isprintable()
    assert len(line) <= 400


def test_aLineCannotMoveTheCursor() -> None:
    assert Line().fromString(b"\x1b[2Jgone\n") == "?[2Jgone?"


@given(st.text())
def test_aLineOfOursIsAlwaysAccepted(text: str) -> None:
    assert len(Line().fromString(Line().toString(text))) <= 400


ALL = [
    Name(),
    Line(),
    Blob(16),
    Blob(16, exactly=False),
    ID(),
    IDs(),
    Where(),
    Few(Where(), 8),
    Few(StrategyVersion(), 32),
    Few(Blob(16), 8),
    Word(Mapping),
    StrategyVersion(),
    ServicePort(),
]


@given(st.sampled_from(ALL), st.binary(max_size=200))
def test_garbageRaisesViolationsOnly(argument: Any, garbage: bytes) -> None:
    with contextlib.suppress(ProtocolViolation):
        argument.fromString(garbage)


@pytest.mark.parametrize("name", [b"", b"-a", b"a b", b"a" * 64, b"\xff", b"a/b", b"a\n", b".a"])
def test_aBadNameIsAViolation(name: bytes) -> None:
    with pytest.raises(ProtocolViolation, match="a bad name"):
        Name().fromString(name)


@pytest.mark.parametrize("length", [0, 15, 17])
def test_aBlobHasItsLength(length: int) -> None:
    with pytest.raises(ProtocolViolation):
        Blob(16).fromString(bytes(length))


def test_aBoundedBlobMayBeShorter() -> None:
    assert Blob(16, exactly=False).fromString(b"ab") == b"ab"


def test_aBoundedBlobMayNotBeLonger() -> None:
    with pytest.raises(ProtocolViolation):
        Blob(16, exactly=False).fromString(bytes(17))


def test_aListThatIsTooLongIsAViolation() -> None:
    sent = Few(Blob(1), 9).toString([b"x"] * 9)
    with pytest.raises(ProtocolViolation, match="9 elements where 8"):
        Few(Blob(1), 8).fromString(sent)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_anIDHas32Bytes(length: int) -> None:
    with pytest.raises(ProtocolViolation):
        ID().fromString(bytes(length))


def test_tooManyIDsAreNotTaken() -> None:
    with pytest.raises(ProtocolViolation):
        IDs().fromString(bytes(32 * (IDs.MOST + 1)))


def test_tooManyIDsAreNotSent() -> None:
    peerIDs = frozenset(PeerID(number.to_bytes(32, "big")) for number in range(IDs.MOST + 1))
    with pytest.raises(ConfigurationError, match="at most 1024"):
        IDs().toString(peerIDs)


@pytest.mark.parametrize("strategy", [b"lan", b"lan/", b"lan/x", b"/1", b"lan/12345", b"lan/-1"])
def test_aBadStrategyIsAViolation(strategy: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        StrategyVersion().fromString(strategy)
