"""
What is said to a UPnP Internet Gateway Device, and what it answers, without I/O: SSDP to find it,
its description, and SOAP (UPnP Device Architecture 1.1; WANIPConnection:1 and :2).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from ipaddress import AddressValueError, IPv4Address
from typing import Any
from urllib.parse import urljoin, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from attrs import frozen

from punchd.errors import PunchdError, Refused

SEARCH_PORT = 1900

#: What any such device answers to, also those of later versions.
DEVICE = "urn:schemas-upnp-org:device:InternetGatewayDevice:1"

#: The services that lend ports.
_SERVICES = re.compile(r"urn:schemas-upnp-org:service:WAN(IP|PPP)Connection:[1-9]")

#: Bytes of an answer to a search, and of a document: real ones have some hundreds, and some
#: thousands.
_LONGEST_ANSWER = 4096
LONGEST_DOCUMENT = 65536

#: Elements of a document. Deeper nesting than this is none of UPnP's.
_MOST_ELEMENTS = 2000
_DEEPEST = 40

# WANIPConnection:1, 2.4.16: errors that mean something to us.
NO_SUCH_ENTRY = 714
CONFLICT = 718
SAME_PORT_NEEDED = 724
ONLY_PERMANENT = 725
#: Conflicts of version 2: no other port free, and one that the router itself uses.
CONFLICTS = frozenset({CONFLICT, 729})


class Fault(Refused):
    """
    The router says no.

    @ivar code: UPnP's number for the reason; 0 if there is none.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"the router says: {text or 'no'}" + (f" ({code})" if code else ""))
        self.code = code


class Garbage(PunchdError):
    """
    What came is no answer of a UPnP device.
    """


@frozen
class Place:
    """
    Where something is on the router.

    @ivar target: path and query.
    """

    port: int
    target: str


@frozen
class Service:
    """
    What lends ports.

    @ivar kind: its type, which stands in every question.
    """

    kind: str
    control: Place


@frozen
class Entry:
    """
    For whom the router holds a port.
    """

    host: str
    port: int


def searchQuestion(router: str) -> bytes:
    """
    A search that goes to one host only (UPnP DA 1.1, 1.3.2).
    """
    lines = [
        "M-SEARCH * HTTP/1.1",
        f"HOST: {router}:{SEARCH_PORT}",
        'MAN: "ssdp:discover"',
        # Not asked for in a search for one host; some devices are silent without.
        "MX: 1",
        f"ST: {DEVICE}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def readSearchAnswer(datagram: bytes, router: str) -> Place | None:
    """
    Where the description is; C{None} for what is no answer, or leads away from the router.
    """
    if len(datagram) > _LONGEST_ANSWER:
        return None
    head, *lines = datagram.decode("latin-1").split("\r\n")
    if re.match(r"HTTP/1\.[01] 200\b", head) is None:
        return None
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip().lower() == "location":
            return placeOf(value.strip(), router)
    return None


def placeOf(url: str, router: str) -> Place | None:
    """
    The place that C{url} names, if it is on the router.
    """
    # No control characters, which would make another request of it.
    if len(url) > 1024 or re.fullmatch(r"[!-~]+", url) is None:
        return None
    try:
        parts = urlsplit(url)
        port = parts.port or 80
    except ValueError:
        return None
    if parts.scheme != "http" or parts.hostname != router or parts.username is not None:
        return None
    return Place(port, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))


def _parse(document: bytes) -> ElementTree.Element:
    """
    @raise Garbage: when it is no XML, or more than anybody needs.
    """
    # As text, so that no encoding which the document claims can hide anything from us.
    text = document.decode("utf-8", "replace")
    # Documents of UPnP have no declarations, with which a few bytes can make gigabytes.
    if len(document) > LONGEST_DOCUMENT or "<!" in re.sub("<!--.*?-->", "", text, flags=re.DOTALL):
        raise Garbage("the router sends a document that is none of UPnP")
    depth = elements = 0
    parser: Any = ElementTree.XMLPullParser(["start", "end"])
    root: ElementTree.Element | None = None
    try:
        parser.feed(text)
        parser.close()
        for event, element in parser.read_events():
            if root is None:
                root = element
            depth += 1 if event == "start" else -1
            elements += event == "start"
            if depth > _DEEPEST or elements > _MOST_ELEMENTS:
                raise Garbage("the router sends a document that is none of UPnP")
    except (ElementTree.ParseError, ValueError, LookupError):
        raise Garbage("the router sends a document that nobody can read") from None
    if root is None:
        raise Garbage("the router sends an empty document")
    return root


def _local(element: ElementTree.Element) -> str:
    """
    An element's name without its namespace, which some devices get wrong.
    """
    return str(element.tag).rpartition("}")[2]


def _textOf(element: ElementTree.Element, name: str) -> str:
    for child in element:
        if _local(child) == name:
            return (child.text or "").strip()
    return ""


def readDescription(document: bytes, place: Place, router: str) -> Service:
    """
    The service that lends ports, best first: that of version 2, and WANIP before WANPPP.

    @param place: where the description came from.
    @raise Garbage: when there is none.
    """
    root = _parse(document)
    own = f"http://{router}:{place.port}{place.target}"
    # Until UPnP 1.1 a description could say what its addresses are relative to.
    base = urljoin(own, _textOf(root, "URLBase"))
    found = []
    for element in root.iter():
        if _local(element) != "service":
            continue
        kind = _textOf(element, "serviceType")
        try:
            control = placeOf(urljoin(base, _textOf(element, "controlURL")), router)
        except ValueError:
            control = None
        if control is not None and _SERVICES.fullmatch(kind):
            found.append(Service(kind, control))
    if not found:
        raise Garbage("the router describes no service that lends ports")
    return min(found, key=lambda service: ("PPP" in service.kind, -int(service.kind[-1])))


def soapQuestion(service: Service, action: str, arguments: Mapping[str, str | int]) -> bytes:
    """
    The document that asks for an action.
    """
    told = "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in arguments.items())
    return (
        '<?xml version="1.0"?>\r\n'
        '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" '
        's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>'
        f'<u:{action} xmlns:u="{service.kind}">{told}</u:{action}>'
        "</s:Body></s:Envelope>\r\n"
    ).encode()


def readSoapAnswer(document: bytes, action: str) -> dict[str, str]:
    """
    The results of an action.

    @raise Fault: when the router says no.
    @raise Garbage: when it says something else.
    """
    root = _parse(document)
    for element in _actions(root):
        name = _local(element)
        if name == f"{action}Response":
            return {_local(child): (child.text or "").strip() for child in element}
        if name == "Fault":
            raise _fault(element)
    raise Garbage("the router answers something else")


def _actions(root: ElementTree.Element) -> Iterator[ElementTree.Element]:
    for body in root:
        if _local(body) == "Body":
            yield from body


def _fault(fault: ElementTree.Element) -> Fault:
    code, text = 0, ""
    for element in fault.iter():
        name, said = _local(element), (element.text or "").strip()
        if name == "errorCode" and re.fullmatch(r"[0-9]{1,5}", said):
            code = int(said)
        elif name in ("errorDescription", "faultstring") and said:
            # It goes to the log.
            text = re.sub(r"[^ -~]", "?", said)[:80]
    return Fault(code, text)


def readAddress(results: Mapping[str, str]) -> str:
    """
    The host of C{GetExternalIPAddress}.

    @raise Refused: when there is none now.
    @raise Garbage: when it is no address.
    """
    said = results.get("NewExternalIPAddress", "")
    if said in ("", "0.0.0.0"):
        raise Refused("the router has no outside address itself")
    try:
        return str(IPv4Address(said))
    except AddressValueError:
        raise Garbage("the router's outside address is none") from None


def readEntry(results: Mapping[str, str]) -> Entry:
    """
    For whom a port is, of C{GetSpecificPortMappingEntry}.

    @raise Garbage: when it says nothing of the kind.
    """
    port = results.get("NewInternalPort", "")
    if re.fullmatch(r"[0-9]{1,5}", port) is None:
        raise Garbage("the router does not say for whom a port is")
    return Entry(results.get("NewInternalClient", ""), int(port))
