"""
Facts, for people and for programs.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def showFacts(facts: Any) -> None:
    """
    As JSON on standard output.
    """
    sys.stdout.write(json.dumps(facts, indent=2) + "\n")


def showLines(lines: list[str]) -> None:
    """
    As they are on standard output.
    """
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.1f} ms"


def showPing(peer: str, answer: dict[str, Any], asJSON: bool, error: str | None = None) -> None:
    """
    What C{punchd ping} found.

    @param error: why it found nothing.
    """
    facts = {key: value for key, value in answer.items() if key not in ("ok", "kind", "error")}
    facts.setdefault("peer", peer)
    if error is not None:
        facts.setdefault("path", None)
        facts["reason"] = error
    if asJSON:
        showFacts(facts)
    if error is not None:
        sys.stderr.write(f"punchd: {error}\n")
    elif not asJSON:
        roundTrip = _milliseconds(facts["rtt"])
        showLines([f"{peer}: {_showPath(facts)}, round trip {roundTrip}"])


def _showPath(link: dict[str, Any]) -> str:
    if link["path"] == "direct":
        return f"direct by {link['strategy']}"
    return f"{link['path']} ({link['reason']})"


def showStatus(answer: dict[str, Any], asJSON: bool) -> None:
    """
    What C{punchd status} found.
    """
    if asJSON:
        showFacts(withoutOk(answer))
    else:
        showLines(statusLines(answer))


def withoutOk(answer: dict[str, Any]) -> dict[str, Any]:
    """
    The facts in an answer.
    """
    return {key: value for key, value in answer.items() if key != "ok"}


def statusLines(facts: dict[str, Any]) -> list[str]:
    """
    What C{punchd status} found, for people.
    """
    lines = [f"{facts['name']}  {facts['id']}  master: {facts['master']}"]
    for server in facts["servers"]:
        if server["connected"]:
            lines.append(
                f"server {server['server']}: connected, sees us as {server['observed']}, mapping "
                f"{server['mapping'] or 'not yet known'}, round trip {_milliseconds(server['rtt'])}"
            )
            # A peer that was started before an update does not tell.
            if server.get("dns") is not None:
                lines.append(f"is {server['dns']} in the DNS")
        else:
            problem = server["problem"] or "connecting"
            lines.append(f"server {server['server']}: not connected: {problem}")
    lines.extend(f"exposes {service}" for service in facts["exposes"])
    for service, published in facts["published"].items():
        where, problem = published["address"], published["problem"]
        if where is None:
            lines.append(f"does not publish {service}: {problem}")
        else:
            lines.append(f"publishes {service} at {where} ({problem or published['by']})")
    for forward in facts["forwards"]:
        target = f"{forward['peer']}/{forward['service']}"
        if forward["peer"] is None:
            target = "any SERVICE.PEER"
        lines.append(f"forwards {forward['listen']} to {target}")
    for peer, link in facts["links"].items():
        if link["path"] is None:
            lines.append(f"link {peer}: {link['reason'] or 'no path was needed yet'}")
        else:
            lines.append(
                f"link {peer}: {_showPath(link)}, round trip "
                f"{_milliseconds(link['rtt'])}, {link['streams']} streams, "
                f"{link['bytesIn']} bytes in, {link['bytesOut']} out"
            )
    return lines


#: What C{punchd nat} says of each key, for people.
_NAT = {
    "address": "address on the outside",
    "changed": "address has changed",
    "translated": "addresses are translated",
    "mapping": "mapping",
    "filtering": "filtering",
    "unsolicited": "what is not let in",
    "preserving": "ports are kept",
    "allocation": "ports are chosen",
    "delta": "step of a counting NAT",
    "hairpin": "reaches itself (hairpin)",
    "doubleNat": "second NAT behind it",
    "routers": "routers on the way",
}


def showNat(answer: dict[str, Any], asJSON: bool) -> None:
    """
    What C{punchd nat} found: one line, then in full.
    """
    facts = withoutOk(answer)
    if asJSON:
        showFacts(facts)
        return
    lines = [facts["line"]]
    lines.extend(f"  {text + ':':26}{_plain(facts[key])}" for key, text in _NAT.items())
    lines.extend(f"  not clear: {text}" for text in facts["unclear"])
    lines.extend(f"  contradiction: {text}" for text in facts["contradictions"])
    if facts["problem"] is not None:
        lines.append(f"  problem: looking again has failed: {facts['problem']}")
    if not facts["complete"]:
        lines.append("  not complete yet: ask again in some seconds")
    showLines(lines)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(value) or "not known"
    return "not known" if value is None else str(value)
