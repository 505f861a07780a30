"""
C{punchd}: what a person does by hand.

Exit status: 0 done; 1 it could not be done, and one line on standard error says why; 2 wrong usage.
"""

from __future__ import annotations

import os
import sys

from punchd import __version__
from punchd.cli.control import Failed, ask, isRunning, stateFolder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command in C{arguments}.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    _fillStandardStreams()
    try:
        if given[:1] == ["connect"]:
            # ssh waits for this one: it does without argparse, as long as nothing is unusual.
            plain = _plainConnect(given[1:])
            if plain is not None:
                return _connectTo(*plain)
        options = _parser().parse_args(given)
        status: int = options.run(options)
        sys.stdout.flush()
    except Failed as failure:
        sys.stderr.write(f"punchd: {failure}\n")
        return 1
    except BrokenPipeError:
        # Whoever reads our output has enough of it.
        sys.stderr.close()
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _fillStandardStreams() -> None:
    """
    Open those of the descriptors 0 to 2 that are closed: the next socket would become one of them.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _plainConnect(arguments: list[str]) -> tuple[str | None, str] | None:
    if len(arguments) == 1 and not arguments[0].startswith("-"):
        return None, arguments[0]
    if len(arguments) == 3 and "--state" in arguments[:2]:
        at = arguments.index("--state")
        target = arguments[2 if at == 0 else 0]
        if not target.startswith("-"):
            return arguments[at + 1], target
    return None


def _parser() -> ArgumentParser:
    from argparse import ArgumentParser

    parser = ArgumentParser(
        prog="punchd", description="Direct TCP connections between machines behind NATs."
    )
    parser.add_argument("--version", action="version", version=f"punchd {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: object, text: str, facts: bool = False) -> ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(run=run)
        made.add_argument("--state", metavar="DIR", help="the peer's state folder")
        if facts:
            made.add_argument("--json", action="store_true", help="print facts as JSON")
        return made

    command("demo", _demo, "server and two peers in one process on loopback, and what they do")
    command("id", _id, "print this peer's ID, making its key if there is none", facts=True)
    trust = command("trust", _trust, "trust a peer under a name", facts=True)
    trust.add_argument("name", metavar="NAME")
    trust.add_argument("id", metavar="ID")
    command("pins", _pins, "list the trusted peers", facts=True)
    connect = command("connect", _connect, "a service's stream on standard input and output")
    connect.add_argument("target", metavar="PEER/SERVICE")
    ping = command("ping", _ping, "path and round-trip time to a peer", facts=True)
    ping.add_argument("peer", metavar="PEER")
    ping.add_argument("--again", action="store_true", help="give the present path up, find another")
    status = command(
        "status", _status, "master, links, streams and bytes of the running peer", facts=True
    )
    status.add_argument("--watch", action="store_true", help="show it anew every second")
    nat = command("nat", _nat, "what the NAT before the running peer does", facts=True)
    nat.add_argument("--again", action="store_true", help="look anew, and wait for what is found")
    command("strategies", _strategies, "the installed strategies", facts=True)
    lab = command("lab", _lab, "build a NAT lab (root, Linux), print NAT x NAT -> path", facts=True)
    lab.add_argument("--svg", metavar="FILE", help="write the matrix as a picture, too")
    lab.add_argument("--kinds", metavar="A,B,...", help="only these kinds of NAT")
    lab.add_argument(
        "--delay", metavar="MS", type=float, default=25.0, help="one-way delay [25 ms]"
    )
    return parser


def _connect(options: Namespace) -> int:
    return _connectTo(options.state, options.target)


def _connectTo(state: str | None, target: str) -> int:
    from punchd.cli.control import begin
    from punchd.cli.copying import copyBothWays, leave

    peer, slash, service = target.partition("/")
    if not slash or not peer or not service or "/" in service:
        sys.stderr.write(f"punchd: expected PEER/SERVICE, not {target!r}\n")
        return 2
    connection, _ = begin(stateFolder(state), "connect", peer=peer, service=service)
    broken = copyBothWays(connection)
    if broken is not None:
        because = f": {broken}" if broken else ""
        sys.stderr.write(f"punchd: the stream broke{because}\n")
    leave(0 if broken is None else 1)


def _ping(options: Namespace) -> int:
    from punchd.cli.showing import showPing

    state = stateFolder(options.state)
    try:
        again = "yes" if options.again else "no"
        answer = ask(state, "ping", peer=options.peer, again=again)
    except Failed as failure:
        showPing(options.peer, failure.answer, options.json, str(failure))
        return 1
    showPing(options.peer, answer, options.json)
    return 0


def _status(options: Namespace) -> int:
    from punchd.cli.showing import showStatus

    state = stateFolder(options.state)
    if options.watch:
        from punchd.cli.watching import watchStatus

        return watchStatus(lambda: ask(state, "status"), options.json)
    showStatus(ask(state, "status"), options.json)
    return 0


def _nat(options: Namespace) -> int:
    from punchd.cli.showing import showNat

    again = "yes" if options.again else "no"
    showNat(ask(stateFolder(options.state), "nat", again=again), options.json)
    return 0


def _id(options: Namespace) -> int:
    from punchd.cli.local import showID

    return showID(stateFolder(options.state), options.json)


def _trust(options: Namespace) -> int:
    from punchd.cli.local import trust
    from punchd.cli.showing import showFacts

    state = stateFolder(options.state)
    if isRunning(state):
        replaced = ask(state, "trust", name=options.name, id=options.id).get("replaced")
    else:
        replaced = trust(state, options.name, options.id)
    if replaced is not None:
        sys.stderr.write(f"punchd: {replaced}\n")
    if options.json:
        showFacts({"name": options.name, "id": options.id.strip().lower()})
    return 0


def _pins(options: Namespace) -> int:
    from punchd.cli.local import showPins

    return showPins(stateFolder(options.state), options.json)


def _strategies(options: Namespace) -> int:
    from punchd.cli.local import showStrategies

    return showStrategies(options.json)


def _demo(options: Namespace) -> int:
    from punchd.cli.demo import demo

    return demo()


def _lab(options: Namespace) -> int:
    from punchd.cli.lab import lab

    return lab(options)
