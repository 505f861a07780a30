"""
Tests for what UPnP routers say: documents as devices send them, and as nobody should.
"""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from punchd.errors import PunchdError, Refused
from punchd.nat.mapping import igd
from punchd.nat.mapping.igd import Entry, Fault, Garbage, Place, Service

ROUTER = "192.168.1.1"

FOUND = (
    f"HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nST: {igd.DEVICE}\r\nEXT:\r\n"
    "Location:  http://192.168.1.1:5000/rootDesc.xml\r\nSERVER: x\r\n\r\n"
)

IP1 = "urn:schemas-upnp-org:service:WANIPConnection:1"
IP2 = "urn:schemas-upnp-org:service:WANIPConnection:2"
PPP1 = "urn:schemas-upnp-org:service:WANPPPConnection:1"


def description(*services: tuple[str, str], base: str = "") -> bytes:
    inner = "".join(
        f"<service><serviceType>{kind}</serviceType><controlURL>{url}</controlURL></service>"
        for kind, url in services
    )
    told = f"<URLBase>{base}</URLBase>" if base else ""
    return (
        f'<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0">{told}<device>'
        f"<deviceList><device><serviceList>{inner}</serviceList></device></deviceList>"
        "</device></root>"
    ).encode()


def soap(inner: str) -> bytes:
    return (
        '<?xml version="1.0"?>\n<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/">'
        f"<s:Body>{inner}</s:Body></s:Envelope>"
    ).encode()


HERE = Place(5000, "/rootDesc.xml")


def test_aSearchGoesToTheRouterAlone() -> None:
    lines = igd.searchQuestion(ROUTER).decode().split("\r\n")
    assert lines[0] == "M-SEARCH * HTTP/1.1"
    assert "HOST: 192.168.1.1:1900" in lines
    assert lines[-2:] == ["", ""]


def test_whereTheDescriptionIs() -> None:
    assert igd.readSearchAnswer(FOUND.encode(), ROUTER) == HERE


@pytest.mark.parametrize(
    "answer",
    [
        FOUND.replace("192.168.1.1:5000", "203.0.113.9:80"),
        FOUND.replace("192.168.1.1:5000", "192.168.1.1@203.0.113.9"),
        FOUND.replace("http://", "https://"),
        FOUND.replace("http://", "file://"),
        FOUND.replace(":5000", ":99999"),
        FOUND.replace("/rootDesc", "/a b"),
        FOUND.replace("200 OK", "404 No"),
        FOUND.replace("Location", "Loc"),
        FOUND + "x" * 5000,
        "M-SEARCH * HTTP/1.1\r\n",
    ],
)
def test_whatLeadsElsewhereIsNoAnswer(answer: str) -> None:
    assert igd.readSearchAnswer(answer.encode(), ROUTER) is None


@given(st.binary(max_size=300))
def test_anythingIsNoAnswerToASearch(datagram: bytes) -> None:
    igd.readSearchAnswer(datagram, ROUTER)
    igd.readSearchAnswer(b"HTTP/1.1 200 OK\r\nLOCATION: http://192.168.1.1" + datagram, ROUTER)


def test_theServiceIsFound() -> None:
    document = description(("urn:other", "/x"), (IP1, "/ctl/IPConn"))
    assert igd.readDescription(document, HERE, ROUTER) == Service(IP1, Place(5000, "/ctl/IPConn"))


def test_theBestServiceIsTaken() -> None:
    document = description((PPP1, "/ppp"), (IP1, "/one"), (IP2, "/two"))
    assert igd.readDescription(document, HERE, ROUTER).kind == IP2


@pytest.mark.parametrize(
    ("url", "base", "target"),
    [
        ("ctl", "", "/ctl"),
        ("http://192.168.1.1:49000/ctl?a=b", "", "/ctl?a=b"),
        ("/ctl", "http://192.168.1.1:49000/", "/ctl"),
    ],
)
def test_addressesMayBeRelative(url: str, base: str, target: str) -> None:
    found = igd.readDescription(description((IP1, url), base=base), HERE, ROUTER)
    assert found.control.target == target
    assert found.control.port == (49000 if "49000" in url + base else 5000)


@pytest.mark.parametrize(
    "document",
    [
        description((IP1, "http://203.0.113.9/ctl")),
        description((IP1, "/ctl"), base="http://203.0.113.9/"),
        description(("urn:schemas-upnp-org:service:WANIPConnection:1 x", "/ctl")),
        description((IP1, "http://[/")),
        description(),
        b"",
        b"<a>",
        b"\x00" * 100,
        b"<a/>" * 2,
        description((IP1, "/ctl")) + b" " * igd.LONGEST_DOCUMENT,
    ],
)
def test_descriptionsThatAreNone(document: bytes) -> None:
    with pytest.raises(Garbage):
        igd.readDescription(document, HERE, ROUTER)


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;&b;">]><a>&c;</a>'
)


@pytest.mark.parametrize(
    "document",
    [
        BOMB.encode(),
        BOMB.encode("utf-16"),
        b'<?xml version="1.0" encoding="cp037"?>' + BOMB.partition("?>")[2].encode("cp037"),
        BOMB.replace("<!DOCTYPE", "<!-- --><!DOCTYPE").encode(),
    ],
    ids=["plain", "utf-16", "ebcdic", "comment"],
)
def test_documentsThatGrowAreNotRead(document: bytes) -> None:
    with pytest.raises(Garbage):
        igd.readSoapAnswer(document, "X")


def test_commentsAreNoDeclarations() -> None:
    document = soap("<!-- hello --><u:XResponse xmlns:u='x'><A>1</A></u:XResponse>")
    assert igd.readSoapAnswer(document, "X") == {"A": "1"}


@pytest.mark.parametrize(
    "document", [b"<a>" * 100 + b"</a>" * 100, b"<a>" + b"<b/>" * 5000 + b"</a>"]
)
def test_documentsOfTooManyElementsAreNotRead(document: bytes) -> None:
    with pytest.raises(Garbage):
        igd.readSoapAnswer(document, "X")


@given(st.one_of(st.binary(max_size=300), st.text(max_size=300).map(str.encode)))
def test_anythingIsNoDocument(document: bytes) -> None:
    for wrapped in (document, soap("").replace(b"<s:Body>", b"<s:Body>" + document)):
        with suppress(PunchdError):
            igd.readSoapAnswer(wrapped, "X")
        with suppress(PunchdError):
            igd.readDescription(wrapped, HERE, ROUTER)


def test_aQuestionIsXML() -> None:
    service = Service(IP1, Place(5000, "/ctl"))
    question = igd.soapQuestion(service, "AddPortMapping", {"NewA": "<&>", "NewB": 7})
    assert b"<NewA>&lt;&amp;&gt;</NewA><NewB>7</NewB>" in question
    assert f'<u:AddPortMapping xmlns:u="{IP1}">'.encode() in question


FAULT = (
    "<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>"
    '<UPnPError xmlns="urn:schemas-upnp-org:control-1-0"><errorCode>{code}</errorCode>'
    "<errorDescription>{text}</errorDescription></UPnPError></detail></s:Fault>"
)


def test_aFaultHasACodeAndAText() -> None:
    document = soap(FAULT.format(code=718, text="ConflictInMappingEntry"))
    with pytest.raises(Fault, match="ConflictInMappingEntry") as caught:
        igd.readSoapAnswer(document, "AddPortMapping")
    assert caught.value.code == igd.CONFLICT


def test_aFaultsTextIsOneShortLine() -> None:
    document = soap(FAULT.format(code="x", text="a&#10;b" + "c" * 500))
    with pytest.raises(Fault) as caught:
        igd.readSoapAnswer(document, "AddPortMapping")
    assert caught.value.code == 0
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 120


def test_anAnswerToAnotherActionIsNone() -> None:
    with pytest.raises(Garbage):
        igd.readSoapAnswer(soap("<u:YResponse xmlns:u='x'/>"), "X")


def test_theOutsideAddress() -> None:
    assert igd.readAddress({"NewExternalIPAddress": "203.0.113.7"}) == "203.0.113.7"
    for none in ("", "0.0.0.0"):
        with pytest.raises(Refused):
            igd.readAddress({"NewExternalIPAddress": none})
    for wrong in ("203.0.113", "::1", "router.example", "203.0.113.7\n"):
        with pytest.raises(Garbage):
            igd.readAddress({"NewExternalIPAddress": wrong})


def test_forWhomAPortIs() -> None:
    entry = {"NewInternalClient": "192.168.1.10", "NewInternalPort": "5000"}
    assert igd.readEntry(entry) == Entry("192.168.1.10", 5000)
    with pytest.raises(Garbage):
        igd.readEntry({"NewInternalPort": "many"})
