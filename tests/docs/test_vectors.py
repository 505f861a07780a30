"""
C{docs/reference/vectors.json} against the code, in both directions.
"""

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import asdict
from twisted.internet.testing import StringTransport
from twisted.protocols import amp

from punchd import errors
from punchd.values.addresses import Address, Ends, makeAddress, packAddress, unpackAddress
from punchd.values.nat import Allocation, Filtering, Mapping, Unsolicited
from punchd.values.peers import PeerAddress, PeerID
from punchd.values.probes import Answer
from punchd.wire import (
    boxes,
    commands,
    frames,
    observing,
    preamble,
    proving,
    proxying,
    relaying,
    versions,
)
from punchd.wire.boxes import BoundedAMP

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "docs/reference/vectors.json").read_text("utf-8")
)


def bytesOf(vector: dict[str, Any]) -> bytes:
    return b"".join(bytes.fromhex(piece) for piece, _ in vector["bytes"])


def each(kind: str, *names: str) -> pytest.MarkDecorator:
    """
    One test for each vector of that kind.
    """
    vectors = VECTORS[kind]
    labels = [
        "-".join([str(number), *(str(vector.get(name)) for name in names)])
        for number, vector in enumerate(vectors)
    ]
    return pytest.mark.parametrize("vector", vectors, ids=labels)


def addressOf(value: dict[str, Any] | None) -> Address | None:
    return None if value is None else makeAddress(value["host"], value["port"])


def test_theConstantsAreThoseOfTheCode() -> None:
    assert VECTORS["constants"] == {
        "alpn": {"master": versions.MASTER_ALPN.decode(), "link": versions.LINK_ALPN.decode()},
        "versions": {
            "master": versions.MASTER_VERSION,
            "oldest master": versions.OLDEST_MASTER_VERSION,
            "preamble": versions.PREAMBLE_VERSION,
            "assist": versions.ASSIST_VERSION,
            "relay": versions.RELAY_VERSION,
            "proof": versions.PROOF_VERSION,
        },
        "lengths": {
            "preamble": preamble.PREAMBLE_LENGTH,
            "session": preamble.SESSION_LENGTH,
            "nonce": preamble.NONCE_LENGTH,
            "question": observing.QUESTION_LENGTH,
            "token": observing.TOKEN_LENGTH,
            "mask": observing.MASK_LENGTH,
            "answer head": observing.ANSWER_HEAD_LENGTH,
            "secret": proving.SECRET_LENGTH,
            "seal": proving.SEAL_LENGTH,
            "challenge": proving.CHALLENGE_LENGTH,
            "opening": relaying.OPENING_LENGTH,
            "relay token": relaying.TOKEN_LENGTH,
            "relay answer head": relaying.ANSWER_HEAD_LENGTH,
            "longest reason": relaying.MAX_REASON,
            "frame head": frames.HEAD_LENGTH,
            "link": frames.LINK_LENGTH,
            "longest control payload": frames.MAX_CONTROL,
            "longest data payload": frames.MAX_DATA,
            "longest box": boxes.MAX_BOX,
            "most keys of a box": boxes.MAX_KEYS,
            "longest message": commands.MOST_BODY,
        },
    }


@each("addresses")
def test_addressIsPackedAndUnpacked(vector: dict[str, Any]) -> None:
    address = addressOf(vector["address"])
    assert address is not None
    assert packAddress(address) == bytesOf(vector)
    assert unpackAddress(bytesOf(vector)) == address


@each("preambles", "side")
def test_preambleIsPackedAndUnpacked(vector: dict[str, Any]) -> None:
    value = preamble.Preamble(
        preamble.Side[vector["side"].upper()],
        bytes.fromhex(vector["session"]),
        bytes.fromhex(vector["nonce"]),
    )
    assert value.pack() == bytesOf(vector)
    assert preamble.Preamble.unpack(bytesOf(vector)) == value


@each("preambles refused", "why")
def test_noPreambleIsRefused(vector: dict[str, Any]) -> None:
    with pytest.raises(getattr(errors, vector["error"])):
        preamble.Preamble.unpack(bytesOf(vector))


@each("questions")
def test_questionIsPackedAndUnpacked(vector: dict[str, Any]) -> None:
    value = observing.Question(bytes.fromhex(vector["token"]), bytes.fromhex(vector["mask"]))
    assert value.pack() == bytesOf(vector)
    assert observing.Question.unpack(bytesOf(vector)) == value


@each("answers")
def test_answerIsPackedAndUnpacked(vector: dict[str, Any]) -> None:
    mask, observed, packed = bytes.fromhex(vector["mask"]), vector["observed"], bytesOf(vector)
    assert observing.packAnswer(addressOf(observed), mask) == packed
    assert observing.answerLength(packed[: observing.ANSWER_HEAD_LENGTH]) == len(packed)
    if observed is None:
        with pytest.raises(errors.Refused):
            observing.unpackAnswer(packed, mask)
    else:
        assert observing.unpackAnswer(packed, mask) == addressOf(observed)


@each("challenges")
def test_challengeIsPackedAndAnswered(vector: dict[str, Any]) -> None:
    secret, nonce = bytes.fromhex(vector["secret"]), bytes.fromhex(vector["nonce"])
    challenge = proving.Challenge.make(secret, nonce)
    assert challenge.pack() == bytesOf(vector)
    assert proving.Challenge.unpack(bytesOf(vector)) == challenge
    assert challenge.answer([secret]) == bytes.fromhex(vector["answer"])


@each("openings")
def test_openingIsPackedAndUnpacked(vector: dict[str, Any]) -> None:
    opening = relaying.Opening(bytes.fromhex(vector["token"]))
    assert opening.pack() == bytesOf(vector)
    assert relaying.Opening.unpack(bytesOf(vector)) == opening


@each("openings refused", "why")
def test_noOpeningIsRefused(vector: dict[str, Any]) -> None:
    with pytest.raises(getattr(errors, vector["error"])):
        relaying.Opening.unpack(bytesOf(vector))


@each("relay answers")
def test_relaysAnswerIsPackedAndRead(vector: dict[str, Any]) -> None:
    refusal, following = vector["refusal"], bytes.fromhex(vector["following"])
    packed = relaying.packAcceptance() if refusal is None else relaying.packRefusal(refusal)
    assert packed + following == bytesOf(vector)
    reader = relaying.AnswerReader()
    if refusal is None:
        assert reader.read(bytesOf(vector)) == following
    else:
        with pytest.raises(errors.Refused, match=f"^{refusal}$"):
            reader.read(bytesOf(vector))


#: What a frame with fields is made and read by.
FIELDS: dict[str, tuple[Callable[..., bytes], Callable[[bytes], Any]]] = {
    "OPEN": (
        lambda stream, window, service: frames.packOpen(stream, window, service),
        lambda payload: dict(zip(("window", "service"), frames.unpackOpen(payload), strict=True)),
    ),
    "OPENED": (
        lambda stream, window: frames.packOpened(stream, window),
        lambda payload: {"window": frames.unpackOpen(payload)[0]},
    ),
    "JOIN": (
        lambda stream, link, **fields: frames.Join(bytes.fromhex(link), **fields).pack(),
        lambda payload: {
            **asdict(frames.Join.unpack(payload)),
            "link": frames.Join.unpack(payload).link.hex(),
        },
    ),
    "JOINED": (
        lambda stream, **fields: frames.Joined(**fields).pack(),
        lambda payload: asdict(frames.Joined.unpack(payload)),
    ),
    **{
        kind: (
            lambda stream, position, kind=kind: frames.packPosition(
                frames.Kind[kind], position, stream
            ),
            lambda payload: {"position": frames.unpackPosition(payload)},
        )
        for kind in ("CREDIT", "PING", "PONG", "ACK")
    },
    **{
        kind: (
            lambda stream, isFinal, why, kind=kind: frames.packEnd(frames.Kind[kind], isFinal, why),
            lambda payload: dict(zip(("isFinal", "why"), frames.unpackEnd(payload), strict=True)),
        )
        for kind in ("GOODBYE", "DECLINED")
    },
}


@each("proxy headers", "version", "name")
def test_proxyHeaderIsPacked(vector: dict[str, Any]) -> None:
    there, here, name = addressOf(vector["there"]), addressOf(vector["here"]), vector["name"]
    assert there is not None
    assert here is not None
    caller = None if name is None else PeerAddress(name, PeerID(bytes(range(32))))
    version = proxying.ProxyVersion(vector["version"])
    assert version.pack(Ends(there, here), caller) == bytesOf(vector)


@each("frames", "kind")
def test_frameIsPackedAndRead(vector: dict[str, Any]) -> None:
    kind, payload = frames.Kind[vector["kind"]], bytes.fromhex(vector["payload"])
    assert frames.packFrame(kind, payload, vector["stream"]) == bytesOf(vector)
    reader = frames.FrameReader()
    assert list(reader.read(bytesOf(vector))) == [(kind, vector["stream"], payload)]
    assert ("fields" in vector) is (vector["kind"] in FIELDS)
    if "fields" in vector:
        pack, unpack = FIELDS[vector["kind"]]
        assert pack(vector["stream"], **vector["fields"]) == bytesOf(vector)
        assert unpack(payload) == vector["fields"]


@each("frames refused", "why")
def test_noFrameIsRefused(vector: dict[str, Any]) -> None:
    with pytest.raises(errors.ProtocolViolation):
        list(frames.FrameReader().read(bytesOf(vector)))


def test_everyKindOfFrameHasAVector() -> None:
    assert {vector["kind"] for vector in VECTORS["frames"]} == set(frames.Kind.__members__)


COMMANDS: dict[str, Any] = {
    command.commandName.decode(): command
    for _, command in inspect.getmembers(commands, inspect.isclass)
    if issubclass(command, amp.Command) and not command.__name__.startswith("_")
}


def _offered(name: str, meaning: Callable[[Any], Any]) -> dict[str, Callable[[Any], Any]]:
    return {name: meaning, f"{commands.OWN}{name}": meaning}


def strategiesOf(texts: list[str]) -> list[tuple[str, int]]:
    return [(name, int(version)) for name, _, version in (text.partition("/") for text in texts)]


def servicesOf(texts: list[str]) -> list[tuple[str, int]]:
    return [(name, int(port)) for name, _, port in (text.partition("/") for text in texts)]


def relayOf(text: str) -> commands.Relay | bytes:
    """
    Where the relay is, in the answer to a hello; elsewhere a token for it.
    """
    host, bar, port = text.partition("|")
    return commands.Relay(host or None, int(port)) if bar else bytes.fromhex(text)


#: What a vector's argument stands for in the code, where that is not the value itself.
VALUES: dict[str, Callable[[Any], Any]] = {
    "answer": Answer,
    "accepts": lambda ids: frozenset(map(PeerID.parse, ids)),
    "assists": lambda texts: [
        commands.Assist(host or None, int(port))
        for host, _, port in (text.partition("|") for text in texts)
    ],
    "body": bytes.fromhex,
    "caller": PeerID.parse,
    **_offered("mapping", Mapping),
    **_offered("filtering", Filtering),
    **_offered("unsolicited", Unsolicited),
    **_offered("allocation", Allocation),
    **_offered("ipv6", addressOf),
    **_offered("mapped", lambda addresses: list(map(addressOf, addresses))),
    **_offered("strategies", strategiesOf),
    **_offered("hosts", lambda hosts: list(map(addressOf, hosts))),
    "ipv6token": bytes.fromhex,
    "observed": addressOf,
    "own": addressOf,
    "peer": PeerID.parse,
    "published": servicesOf,
    "reflexive": addressOf,
    "relay": relayOf,
    "secret": bytes.fromhex,
    "session": bytes.fromhex,
    "token": bytes.fromhex,
    "tokens": lambda tokens: list(map(bytes.fromhex, tokens)),
}


def argumentsOf(vector: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if value is None else VALUES.get(name, lambda same: same)(value)
        for name, value in vector["arguments"].items()
    }


def tagOf(vector: dict[str, Any]) -> dict[str, str]:
    """
    The keys of a box beside the arguments.
    """
    if vector["box"] == "answer":
        return {"_answer": vector["tag"]}
    return {
        "_command": vector["command"],
        **({} if vector["tag"] is None else {"_ask": vector["tag"]}),
    }


@each("boxes", "command", "box")
def test_boxIsWritten(vector: dict[str, Any]) -> None:
    command, arguments = COMMANDS[vector["command"]], argumentsOf(vector)
    make = command.makeArguments if vector["box"] == "question" else command.makeResponse
    # AMP takes Nones for optional arguments only.
    box = make({name: value for name, value in arguments.items() if value is not None}, None)
    for key, value in tagOf(vector).items():
        box[key.encode()] = value.encode()
    assert box.serialize() == bytesOf(vector)


@each("boxes", "command", "box")
def test_boxIsRead(vector: dict[str, Any]) -> None:
    command = COMMANDS[vector["command"]]
    [box] = amp.parseString(bytesOf(vector))
    for key, value in tagOf(vector).items():
        assert box.pop(key.encode()) == value.encode()
    parse = command.parseArguments if vector["box"] == "question" else command.parseResponse
    # What a vector leaves out is missing.
    found = {name: value for name, value in parse(box, None).items() if value is not None}
    said = argumentsOf(vector)
    assert found == {name: value for name, value in said.items() if value is not None}


def test_everyCommandHasVectorsForItsQuestionAndAnswer() -> None:
    expected = {
        (name, box)
        for name, command in COMMANDS.items()
        for box in (["question", "answer"] if command.requiresAnswer else ["question"])
    }
    assert {(vector["command"], vector["box"]) for vector in VECTORS["boxes"]} == expected


def test_aConnectionWritesTheFirstQuestionAsInTheVectors() -> None:
    """
    So nothing between a command and the transport adds or changes a byte.
    """
    [vector, *_] = VECTORS["boxes"]
    transport = StringTransport()
    connection = BoundedAMP(amp.CommandLocator(), lambda violation: pytest.fail(str(violation)))
    connection.makeConnection(transport)
    connection.callRemote(COMMANDS[vector["command"]], **argumentsOf(vector))
    assert transport.value() == bytesOf(vector)


@each("errors", "error")
def test_errorIsWrittenAndRead(vector: dict[str, Any]) -> None:
    kind: type[Exception] = getattr(errors, vector["error"])
    code = commands.ERRORS[kind]
    box = amp.AmpBox(
        _error=vector["tag"].encode(),
        _error_code=code,
        _error_description=vector["description"].encode(),
    )
    assert box.serialize() == bytesOf(vector)
    command: Any = commands.Introduce
    assert command.reverseErrors[code] is kind


def test_everyErrorHasAVector() -> None:
    assert {vector["code"].encode() for vector in VECTORS["errors"]} == set(
        commands.ERRORS.values()
    )
