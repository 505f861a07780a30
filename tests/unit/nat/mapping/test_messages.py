"""
Tests for PCP and NAT-PMP: bytes as the RFCs have them, and what no router should say.
"""

from __future__ import annotations

import contextlib
import struct
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from punchd.errors import PunchdError, Refused, Unreachable
from punchd.interfaces import IPortMapper
from punchd.nat.mapping import natpmp, pcp
from punchd.nat.mapping.natpmp import NATPMP
from punchd.nat.mapping.pcp import PCP
from punchd.values.addresses import makeAddress
from punchd.values.leases import Lease, RouterFacts
from tests.unit.nat.routers import GATEWAY, OUTSIDE, Datagrams

NONCE = bytes(range(12))
MAP = pcp.mapQuestion(GATEWAY.own, NONCE, 5000, 8080, "0.0.0.0", 7200)
V4 = bytes(10) + b"\xff\xff"


def pcpAnswer(
    question: bytes,
    external: int = 8080,
    host: bytes = V4 + bytes([203, 0, 113, 7]),
    *,
    result: int = 0,
    lifetime: int = 3600,
    epoch: int = 1000,
) -> bytes:
    head = struct.pack("!BBBBII12x", 2, question[1] | 0x80, 0, result, lifetime, epoch)
    if question[1] == pcp.ANNOUNCE:
        return head
    return head + question[24:42] + external.to_bytes(2, "big") + host


def result(answered: Deferred[Any]) -> Any:
    assert answered.called
    got: list[Any] = []
    answered.addBoth(got.append)
    return got[0]


# PCP.


def test_theQuestionsOfPCPAreThoseOfTheRFC() -> None:
    """
    RFC 6887, 7.1 and 11.1.
    """
    own = "00000000000000000000ffffc0a8010a"
    assert pcp.announceQuestion(GATEWAY.own).hex() == "0200000000000000" + own
    assert MAP.hex() == (
        "02010000" + "00001c20" + own + NONCE.hex() + "06000000" + "1388" + "1f90"
        "00000000000000000000ffff00000000"
    )


def test_anAnswerOfPCPIsRead() -> None:
    assert pcp.readAnswer(pcpAnswer(MAP), MAP) == pcp.Answer(1000, 3600, 5000, 8080, OUTSIDE)


def test_pcpAnswersThatAreOfAnotherQuestionAreNone() -> None:
    others = [
        pcp.mapQuestion(GATEWAY.own, bytes(12), 5000, 8080, "0.0.0.0", 7200),
        pcp.mapQuestion(GATEWAY.own, NONCE, 5001, 8080, "0.0.0.0", 7200),
        pcp.announceQuestion(GATEWAY.own),
    ]
    for other in others:
        assert pcp.readAnswer(pcpAnswer(other), MAP) is None
        if other[1] == pcp.MAP:
            assert pcp.readAnswer(pcpAnswer(other, result=2), MAP) is None


@pytest.mark.parametrize(
    ("code", "text"),
    [(2, "not authorized"), (8, "no resources"), (12, "a NAT stands between"), (200, "error 200")],
)
def test_pcpsRefusalsAreTold(code: int, text: str) -> None:
    with pytest.raises(Refused, match=text):
        pcp.readAnswer(pcpAnswer(MAP, result=code), MAP)


def test_aRouterThatKnowsNATPMPAloneSaysSo() -> None:
    """
    RFC 6887, 9.
    """
    with pytest.raises(Refused, match="speaks no PCP"):
        pcp.readAnswer(bytes([0, 0x81, 0, 1, 0, 0, 0, 9]), MAP)


def test_aQuestionIsNoAnswer() -> None:
    assert pcp.readAnswer(MAP, MAP) is None
    assert natpmp.readAnswer(natpmp.addressQuestion(), natpmp.addressQuestion()) is None


@given(st.binary(max_size=1200))
def test_anythingIsNoAnswerOfPCPOrARefusal(datagram: bytes) -> None:
    for question in (MAP, pcp.announceQuestion(GATEWAY.own)):
        with contextlib.suppress(PunchdError):
            pcp.readAnswer(datagram, question)


@given(st.data())
def test_aSpoiltAnswerOfPCPHurtsNobody(data: st.DataObject) -> None:
    answer = bytearray(pcpAnswer(MAP))
    for _ in range(data.draw(st.integers(1, 4))):
        answer[data.draw(st.integers(0, len(answer) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = pcp.readAnswer(bytes(answer[: data.draw(st.integers(0, 60))]), MAP)
    except PunchdError:
        return
    assert read is None or read.internal == 5000


def test_thePausesOfPCPGrow() -> None:
    """
    RFC 6887, 8.1.1.
    """
    first, second = pcp.waits(Random(1))
    assert 2.7 <= first <= 3.3
    assert 1.9 * first <= second <= 2.2 * first


# NAT-PMP.

MAP_PMP = natpmp.mapQuestion(5000, 8080, 7200)
ADDRESS = natpmp.addressQuestion()


def pmpAddress(code: int = 0, epoch: int = 1000) -> bytes:
    return struct.pack("!BBHI4B", 0, 128, code, epoch, 203, 0, 113, 7)


def pmpAnswer(code: int = 0, internal: int = 5000, external: int = 8080) -> bytes:
    return struct.pack("!BBHIHHI", 0, 130, code, 1000, internal, external, 3600)


def test_theQuestionsOfNATPMPAreThoseOfTheRFC() -> None:
    """
    RFC 6886, 3.2 and 3.3.
    """
    assert ADDRESS.hex() == "0000"
    assert MAP_PMP.hex() == "00020000" + "1388" + "1f90" + "00001c20"


def test_answersOfNATPMPAreRead() -> None:
    assert natpmp.readAnswer(pmpAddress(), ADDRESS) == natpmp.Answer(1000, OUTSIDE)
    assert natpmp.readAnswer(pmpAnswer(), MAP_PMP) == natpmp.Answer(1000, None, 5000, 8080, 3600)


def test_pmpAnswersThatAreOfAnotherQuestionAreNone() -> None:
    assert natpmp.readAnswer(pmpAnswer(internal=5001), MAP_PMP) is None
    assert natpmp.readAnswer(pmpAnswer(2, internal=5001), MAP_PMP) is None
    assert natpmp.readAnswer(pmpAddress(), MAP_PMP) is None
    assert natpmp.readAnswer(pmpAnswer(), ADDRESS) is None


@pytest.mark.parametrize(("code", "text"), [(3, "no outside address"), (77, "error 77")])
def test_pmpsRefusalsAreTold(code: int, text: str) -> None:
    with pytest.raises(Refused, match=text):
        natpmp.readAnswer(pmpAddress(code), ADDRESS)
    with pytest.raises(Refused, match=text):
        natpmp.readAnswer(pmpAnswer(code)[:8], MAP_PMP)


@given(st.binary(max_size=64))
def test_anythingIsNoAnswerOfNATPMPOrARefusal(datagram: bytes) -> None:
    for question in (MAP_PMP, ADDRESS):
        with contextlib.suppress(PunchdError):
            natpmp.readAnswer(datagram, question)


def test_thePausesOfNATPMPDouble() -> None:
    """
    RFC 6886, 3.1.
    """
    assert list(natpmp.waits()) == [0.25, 0.5, 1.0, 2.0, 4.0]


# Asking.


def makePCP(datagrams: Datagrams) -> PCP:
    return PCP(datagrams, Random(1), lambda length: NONCE[:length], GATEWAY)


def test_bothArePortMappers() -> None:
    datagrams = Datagrams()
    assert verifyObject(IPortMapper, makePCP(datagrams))
    assert verifyObject(IPortMapper, NATPMP(datagrams, GATEWAY))


def test_pcpMakesRenewsAndGivesBackWithOneNonce() -> None:
    datagrams = Datagrams()
    mapper = makePCP(datagrams)
    made = mapper.lease(5000, 8080, 7200)
    datagrams.last.answer(pcpAnswer(datagrams.last.sent[0][0]))
    lease = result(made)
    assert lease == Lease("pcp", 5000, makeAddress(OUTSIDE, 8080), 3600)
    mapper.lease(5000, 8080, 7200)
    renewal = datagrams.last.sent[0][0]
    assert renewal[24:36] == NONCE
    datagrams.last.answer(pcpAnswer(renewal))
    returned = mapper.release(lease)
    question = datagrams.last.sent[0][0]
    assert question[4:8] == bytes(4)
    assert question[24:36] == NONCE
    datagrams.last.answer(pcpAnswer(question, lifetime=0))
    assert result(returned) is None


@pytest.mark.parametrize(
    "wrong", [{"external": 0}, {"lifetime": 0}, {"host": bytes(15) + b"\x01"}], ids=str
)
def test_pcpTakesNoLeaseThatIsNone(wrong: dict[str, Any]) -> None:
    datagrams = Datagrams()
    made = makePCP(datagrams).lease(5000, 8080, 7200)
    datagrams.last.answer(pcpAnswer(datagrams.last.sent[0][0], **wrong))
    assert result(made).check(Refused)


def test_pcpKnowsOfARestart() -> None:
    datagrams = Datagrams()
    mapper = makePCP(datagrams)
    made = mapper.lease(5000, 8080, 7200)
    datagrams.last.answer(pcpAnswer(datagrams.last.sent[0][0]))
    lease = result(made)
    for seconds, epoch, holds in ((60, 1060, True), (60, 7, False), (60, 67, False)):
        datagrams.advance(seconds)
        asking = mapper.holds(lease)
        datagrams.last.answer(pcpAnswer(datagrams.last.sent[0][0], epoch=epoch))
        assert result(asking) is holds


def test_natpmpMakesKnowsAndGivesBack() -> None:
    datagrams = Datagrams()
    mapper = NATPMP(datagrams, GATEWAY)
    made = mapper.lease(5000, 8080, 7200)
    datagrams.last.answer(pmpAddress())
    datagrams.last.answer(pmpAnswer())
    lease = result(made)
    assert lease == Lease("nat-pmp", 5000, makeAddress(OUTSIDE, 8080), 3600)
    asking = mapper.holds(lease)
    datagrams.last.answer(pmpAddress())
    assert result(asking) is True
    datagrams.advance(60)
    asking = mapper.holds(lease)
    datagrams.last.answer(pmpAddress(epoch=0))
    assert result(asking) is False
    returned = mapper.release(lease)
    # RFC 6886, 3.4: both zero.
    assert datagrams.last.sent[0][0] == natpmp.mapQuestion(5000, 0, 0)
    datagrams.last.answer(struct.pack("!BBHIHHI", 0, 130, 0, 1000, 5000, 0, 0))
    assert result(returned) is None


def test_natpmpTellsItsAddress() -> None:
    datagrams = Datagrams()
    asking = NATPMP(datagrams, GATEWAY).ask()
    datagrams.last.answer(pmpAddress())
    assert result(asking) == RouterFacts(OUTSIDE)


def test_silenceIsBounded() -> None:
    datagrams = Datagrams()
    for asking in (makePCP(datagrams).ask(), NATPMP(datagrams, GATEWAY).ask()):
        for _ in range(100):
            datagrams.advance(0.1)
        assert result(asking).check(Unreachable)
    assert not datagrams.getDelayedCalls()
