"""
What needs no running peer, only its state folder or the installation.
"""

from __future__ import annotations

from punchd.cli.control import Failed
from punchd.cli.showing import showFacts, showLines
from punchd.errors import PunchdError
from punchd.identity.folder import StateFolder
from punchd.identity.keys import Identity
from punchd.identity.pins import Pins
from punchd.plugin import loadStrategies, packageOf, strategyMakers
from punchd.strategies.planning import preferred
from punchd.values.peers import PeerID


def _folder(state: str) -> StateFolder:
    try:
        return StateFolder.at(state)
    except PunchdError as error:
        raise Failed(str(error)) from None


def showID(state: str, asJSON: bool) -> int:
    """
    The ID of the key in the state folder, which is made if it is not there.
    """
    try:
        peerID = Identity.inFolder(_folder(state)).peerID
    except PunchdError as error:
        raise Failed(str(error)) from None
    if asJSON:
        showFacts({"id": str(peerID)})
    else:
        showLines([str(peerID)])
    return 0


def trust(state: str, name: str, peerID: str) -> str | None:
    """
    Pin a peer in the state folder.

    @return: what that replaced, if anything.
    """
    try:
        return Pins.inFolder(_folder(state)).trust(name, PeerID.parse(peerID))
    except PunchdError as error:
        raise Failed(str(error)) from None


def showPins(state: str, asJSON: bool) -> int:
    """
    The pins in the state folder.
    """
    try:
        pins = list(Pins.inFolder(_folder(state)))
    except PunchdError as error:
        raise Failed(str(error)) from None
    if asJSON:
        showFacts({pin.name: str(pin.peerID) for pin in pins})
    else:
        showLines([f"{pin.name}  {pin.peerID}" for pin in pins])
    return 0


def showStrategies(asJSON: bool) -> int:
    """
    The installed strategies, best first; one that cannot be loaded is listed with the reason.
    """
    broken: dict[str, str] = {}
    makers = {maker.name: maker for maker in strategyMakers()}

    def report(name: str, error: Exception) -> None:
        broken[name] = f"{type(error).__name__}: {error}"

    loaded = loadStrategies(list(makers.values()), report)
    facts = []
    for name in preferred(list(makers)):
        strategy = loaded.get(name)
        facts.append(
            {
                "name": name,
                "version": None if strategy is None else strategy.version,
                "package": packageOf(makers[name]),
                "problem": broken.get(name),
            }
        )
    if asJSON:
        showFacts(facts)
    else:
        showLines(
            [
                f"{fact['name']}  version {fact['version']}  from {fact['package']}"
                if fact["problem"] is None
                else f"{fact['name']}  cannot be loaded: {fact['problem']}"
                for fact in facts
            ]
        )
    return 0
