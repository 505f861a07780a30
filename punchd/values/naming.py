"""
What a peer wants to be found under in the DNS, and what can have a name there.
"""

from __future__ import annotations

import re

import idna
from attrs import frozen

from punchd.errors import ConfigurationError

# RFC 952 and RFC 1123, 2.1: what the names of hosts are made of.
_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)\Z")

# A label stands for something that is not ASCII if it begins so (RFC 5890, 2.3.2.1).
_IDNA = "xn--"

#: The longest service that can be published in the DNS: an underscore stands before it.
MOST_SERVICE = 62


@frozen
class Listing:
    """
    What of a peer shall be in the DNS.

    @ivar hasAddress: whether its name and address shall, whatever it publishes.
    @ivar services: names and ports of what it publishes; its name and address are there with them.
    """

    hasAddress: bool = False
    services: tuple[tuple[str, int], ...] = ()

    @property
    def isEmpty(self) -> bool:
        """
        Whether nothing of it shall.
        """
        return not self.hasAddress and not self.services


#: Nothing of it.
UNLISTED = Listing()


def isLabel(name: str) -> bool:
    """
    Whether C{name} can be one label of a host's name in the DNS.
    """
    if _LABEL.match(name) is None:
        return False
    return not name.lower().startswith(_IDNA) or _isEncoded(name.lower())


def isPublishable(service: str) -> bool:
    """
    Whether C{service} can have a SRV record (RFC 2782).
    """
    return isLabel(service) and len(service) <= MOST_SERVICE


def checkedLabel(name: str, what: str = "name") -> str:
    """
    Return C{name} if it can be one label of a host's name in the DNS.

    @param what: what the name is of, for the error's text.
    @raise ConfigurationError: otherwise.
    """
    if not isLabel(name):
        raise ConfigurationError(
            f"{name[:80]!r} cannot be a {what} in the DNS: use 1 to 63 letters, digits or '-', "
            "neither beginning nor ending with '-'"
        )
    return name


def asciiLabel(text: str, what: str = "name") -> str:
    """
    The label that stands for C{text} in the DNS, if that is not ASCII (RFC 5891); else C{text}.

    @raise ConfigurationError: when there is none.
    """
    if text.isascii():
        return text
    try:
        return idna.encode(text, uts46=True).decode("ascii")
    except idna.IDNAError as error:
        raise ConfigurationError(
            f"{text[:80]!r} cannot be a {what}: as an internationalised name, {error}"
        ) from None


def asciiName(text: str, what: str) -> str:
    """
    The name in the DNS, of one label or more, that C{text} is, in lower case and without the dot at
    its end.

    @raise ConfigurationError: when it is none.
    """
    labels = text.removesuffix(".").split(".")
    return ".".join(checkedLabel(asciiLabel(each, what), what).lower() for each in labels)


def _isEncoded(label: str) -> bool:
    try:
        return idna.encode(idna.decode(label)).decode("ascii") == label
    except idna.IDNAError:
        return False
