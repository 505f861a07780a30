"""
Tests for L{punchd.wire.commands}.
"""

import contextlib
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionLost
from twisted.protocols import amp

from punchd.errors import (
    IncompatibleVersions,
    NotTrusted,
    Overlapping,
    ProtocolViolation,
    PunchdError,
    Refused,
    UnknownPeer,
    Unreachable,
)
from punchd.values.addresses import Address
from punchd.values.nat import Allocation, Filtering, Mapping, NatBehaviour, Unsolicited
from punchd.values.parties import Offer
from punchd.values.peers import PeerID
from punchd.wire.commands import (
    ERRORS,
    FATAL,
    MOST_DELTA,
    MOST_HOSTS,
    MOST_MAPPED,
    OWN,
    Assist,
    Farewell,
    Hello,
    Introduce,
    Introduction,
    Relay,
    RelayNote,
    Report,
    Tell,
    Tokens,
    Told,
    Update,
    errorFrom,
    offerArguments,
    offerFrom,
    toldArguments,
)
from tests.unit.net.memory import HERE
from tests.unit.values.addressing import ADDRESSES
from tests.unit.wire.test_arguments import NAMES

OFFERS = st.builds(
    Offer,
    st.builds(
        NatBehaviour,
        st.none() | st.sampled_from(Mapping),
        st.none() | st.sampled_from(Filtering),
        st.none() | st.sampled_from(Unsolicited),
        st.none() | st.sampled_from(Allocation),
        st.integers(-MOST_DELTA, MOST_DELTA),
        st.booleans(),
    ),
    st.lists(ADDRESSES, max_size=MOST_HOSTS).map(tuple),
    st.lists(st.tuples(NAMES, st.integers(0, 99)), max_size=32).map(tuple),
    st.lists(ADDRESSES, max_size=MOST_MAPPED).map(tuple),
    takesRelay=st.booleans(),
)

COMMANDS = [
    Hello,
    Update,
    Tokens,
    Introduce,
    Introduction,
    Tell,
    Told,
    Report,
    RelayNote,
    Farewell,
]


def roundTrip(command: type[amp.Command], arguments: dict[str, Any]) -> dict[str, Any]:
    parsed: dict[str, Any] = command.parseArguments(command.makeArguments(arguments, None), None)
    return parsed


@given(OFFERS)
def test_anOfferArrives(offer: Offer) -> None:
    sent = {"accepts": frozenset[PeerID](), **offerArguments(offer)}
    assert offerFrom(roundTrip(Update, sent)) == offer


@given(OFFERS, OFFERS, st.none() | ADDRESSES)
def test_bothOffersAreTold(theirs: Offer, own: Offer, ipv6: Address | None) -> None:
    theirs = evolve(theirs, ipv6=ipv6)
    told = roundTrip(
        Introduction,
        {
            "session": b"s" * 16,
            "caller": PeerID(b"c" * 32),
            "own": HERE,
            "reflexive": HERE,
            **toldArguments(theirs),
            **toldArguments(own, OWN),
        },
    )
    assert (offerFrom(told), offerFrom(told, OWN)) == (theirs, own)


@pytest.mark.parametrize("delta", [MOST_DELTA + 1, -MOST_DELTA - 1, 10**30])
def test_aStepThatIsTooLongIsNone(delta: int) -> None:
    offer = Offer(NatBehaviour(allocation=Allocation.COUNTING, delta=delta))
    sent = {"accepts": frozenset[PeerID](), **offerArguments(offer)}
    assert offerFrom(roundTrip(Update, sent)).nat.delta == 0


@given(
    st.none() | st.from_regex(r"[a-z0-9.:-]{1,40}", fullmatch=True),
    st.integers(1, 65535),
)
def test_anAssistEndpointArrives(host: str | None, port: int) -> None:
    argument: Any = dict(Hello.response)[b"assists"]
    assert argument.fromString(argument.toString([Assist(host, port)])) == [Assist(host, port)]


@given(
    st.none() | st.from_regex(r"[a-z0-9.:-]{1,40}", fullmatch=True),
    st.integers(1, 65535),
)
def test_theRelaysPlaceArrives(host: str | None, port: int) -> None:
    argument: Any = dict(Hello.response)[b"relay"]
    assert argument.fromString(argument.toString(Relay(host, port))) == Relay(host, port)


def test_aServerWithoutARelayNamesNone() -> None:
    sent: dict[str, Any] = {"version": 1, "observed": HERE, "assists": []}
    box = Hello.makeResponse(sent, None)
    assert Hello.parseResponse(box, None)["relay"] is None


def test_anIntroductionWithoutARelayHasNoToken() -> None:
    sent = {"session": bytes(16), "own": HERE, "reflexive": HERE}
    offers = {**toldArguments(Offer()), **toldArguments(Offer(), OWN)}
    answer = Introduce.parseResponse(Introduce.makeResponse({**sent, **offers}, None), None)
    told = roundTrip(Introduction, {**sent, "caller": PeerID(bytes(32)), **offers})
    assert answer["relay"] is told["relay"] is None


@pytest.mark.parametrize(
    "endpoint",
    [
        b"",
        b"host",
        b"host|",
        b"|0",
        b"|65536",
        b"|-1",
        b"|x",
        b"h" * 256 + b"|1",
        b"|" + b"9" * 5000,
    ],
)
def test_aBadAssistEndpointIsAViolation(endpoint: bytes) -> None:
    argument: Any = dict(Hello.response)[b"assists"]
    sent = len(endpoint).to_bytes(2, "big") + endpoint
    with pytest.raises(ProtocolViolation):
        argument.fromString(sent)


@given(st.sampled_from(COMMANDS), st.lists(st.binary(max_size=60), min_size=8, max_size=8))
def test_garbageInACommandRaisesNothingUnforeseen(command: Any, values: list[bytes]) -> None:
    names = [name for name, _ in command.arguments]
    box = amp.AmpBox(dict(zip(names, values, strict=False)))
    # BoundedAMP ends the connection for each of these.
    with contextlib.suppress(PunchdError, ValueError, KeyError, amp.AmpError):
        command.parseArguments(box, None)


@pytest.mark.parametrize("command", COMMANDS)
def test_theErrorsOfACommandAreThoseOfTheTable(command: Any) -> None:
    assert set(command.errors) == set(ERRORS)


def test_fatalErrorsAreInTheTable() -> None:
    assert FATAL.items() <= ERRORS.items()


def test_aMissingTokenArrivesAsNone() -> None:
    sent = {"session": bytes(16), "strategy": "lan", "body": b"hello"}
    assert roundTrip(Tell, sent)["token"] is None


def test_aMessageIsBounded() -> None:
    box = Tell.makeArguments({"session": bytes(16), "strategy": "lan", "body": bytes(1025)}, None)
    with pytest.raises(ProtocolViolation):
        Tell.parseArguments(box, None)


@pytest.mark.parametrize(
    "error",
    [
        ProtocolViolation("x"),
        IncompatibleVersions("x"),
        UnknownPeer("x"),
        Overlapping("x"),
        Refused("x"),
        Unreachable("x"),
        NotTrusted("x"),
    ],
)
def test_anErrorOfOursStaysWhatItIs(error: PunchdError) -> None:
    assert errorFrom(error) is error


def test_anErrorOfAnotherVersionIsARefusalWithItsText() -> None:
    error = errorFrom(amp.RemoteAmpError(b"NEW_KIND", "the moon is full"))
    assert isinstance(error, Refused)
    assert "the moon is full" in str(error)


def test_aLostConnectionMeansUnreachable() -> None:
    error = errorFrom(ConnectionLost("gone"))
    assert isinstance(error, Unreachable)
    assert "gone" in str(error)


def test_aFlagIsTrueOrFalse() -> None:
    argument: Any = dict(RelayNote.arguments)[b"ends"]
    assert [argument.fromString(argument.toString(flag)) for flag in (True, False)] == [True, False]
    with pytest.raises(ProtocolViolation, match="neither True nor False"):
        argument.fromString(b"perhaps")
