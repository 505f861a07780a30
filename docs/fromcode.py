"""
Parts of the manual that are made from the code, so that they cannot be out of date.

  - C{:number:`punchd.wire.frames.MAX_DATA`}: the value of a constant.
  - C{:values:`punchd.values.outcomes.Result`}: the values of an enumeration.
  - C{.. twistd-options:: punchd.tap.peer}: the options of a command under C{twistd}.
  - C{.. punchd-commands::}: the subcommands of C{punchd}.
  - C{.. wire-errors::}: the errors that cross a master connection.
  - C{.. strategies::}: what comes installed.
  - C{.. nat-kinds::}: the NATs that the lab builds.
  - C{.. pairs::}: what a run of C{punchd lab} has found, which C{reference/matrix.json} holds.
"""

import argparse
import importlib
import inspect
import json
import re
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst.states import Inliner
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from twisted.python.reflect import namedAny

#: Options that Twisted gives to every command, which need no line here.
_TWISTED = {"help", "version"}

_MATRIX = Path(__file__).parent / "reference/matrix.json"


def shown(value: object) -> str:
    """
    A constant, as the manual writes it.
    """
    if isinstance(value, bytes):
        return value.decode("ascii")
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, int):
        # Ports and the like are written without a comma.
        return f"{value:,}" if value >= 10_000 else str(value)
    return str(value)


def number(
    name: str,
    rawtext: str,
    text: str,
    lineno: int,
    inliner: Inliner,
    options: dict[str, Any] | None = None,
    content: list[str] | None = None,
) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    """
    The role C{number}.
    """
    module, _, constant = text.rpartition(".")
    try:
        value = getattr(importlib.import_module(module), constant)
    except (ImportError, AttributeError, ValueError) as error:
        message = inliner.reporter.error(f"no such constant: {text} ({error})", line=lineno)
        return [inliner.problematic(rawtext, rawtext, message)], [message]
    return [nodes.inline(rawtext, shown(value))], []


def values(
    name: str,
    rawtext: str,
    text: str,
    lineno: int,
    inliner: Inliner,
    options: dict[str, Any] | None = None,
    content: list[str] | None = None,
) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    """
    The role C{values}.
    """
    made: list[nodes.Node] = []
    for one in namedAny(text):
        made += [nodes.literal(one.value, one.value), nodes.Text(", ")]
    return made[:-1], []


def optionsOf(module: str) -> list[tuple[str, str, str]]:
    """
    The long name, the value's name and the description of each option of a C{twistd} command.
    """
    options = namedAny(f"{module}.Options")
    repeatable = set(options.repeatable)
    found = {}
    for long, _, default, text in options.optParameters:
        # The reader's home is not the builder's.
        said = "" if default is None or long == "state" else f" [{default}]"
        found[long] = ("VALUE", text + said)
    for long, _, text in options.optFlags if hasattr(options, "optFlags") else []:
        found[long] = ("", text)
    for name, method in inspect.getmembers(options, inspect.isfunction):
        if name.startswith("opt_"):
            long = name.removeprefix("opt_").replace("_", "-")
            found[long] = ("VALUE", " ".join((inspect.getdoc(method) or "").split()))
    rows = []
    for long, (value, text) in sorted(found.items()):
        if long in _TWISTED:
            continue
        if long in repeatable and "epeatable" not in text:
            text += " Repeatable."
        rows.append((long, value, text))
    return rows


def commandsOf() -> list[tuple[str, str, list[tuple[str, str]]]]:
    """
    The name, the description and the arguments, each with its help, of each command of C{punchd}.
    """
    parser = importlib.import_module("punchd.cli.main")._parser()
    [commands] = [
        action for action in parser._actions if isinstance(action, argparse._SubParsersAction)
    ]
    found = []
    for name, command in commands.choices.items():
        arguments = []
        for action in command._actions:
            if isinstance(action, argparse._HelpAction):
                continue
            value = "" if action.nargs == 0 else action.metavar or action.dest
            flag = ", ".join(action.option_strings)
            arguments.append((f"{flag} {value}".strip(), action.help or ""))
        found.append((name, command.description or "", arguments))
    return found


def _literally(text: str) -> str:
    return re.sub(r"([*`|_\\])", r"\\\1", text)


class _Made(SphinxDirective):
    """
    A directive that writes restructuredText.
    """

    def lines(self) -> list[str]:
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        source, _ = self.get_source_info()
        return self.parse_content_to_nodes(self.lines(), source)

    def parse_content_to_nodes(self, lines: list[str], source: str) -> list[nodes.Node]:
        made = nodes.container()
        self.state.nested_parse(StringList(lines, source), self.content_offset, made)
        return made.children


class TwistdOptions(_Made):
    """
    C{.. twistd-options:: MODULE}
    """

    required_arguments: ClassVar[int] = 1

    def lines(self) -> list[str]:
        lines = []
        for long, value, text in optionsOf(self.arguments[0]):
            lines += [f"``--{long} {value}``".replace(" ``", "``"), f"   {_literally(text)}", ""]
        return lines


class PunchdCommands(_Made):
    """
    C{.. punchd-commands::}
    """

    def lines(self) -> list[str]:
        lines = []
        for name, text, arguments in commandsOf():
            usage = " ".join(["punchd", name, *(one for one, _ in arguments if one[0] != "-")])
            lines += [f"``{usage}``", f"   {_literally(text)}.", ""]
            for argument, told in arguments:
                if argument.startswith("-"):
                    lines += [f"   ``{argument}``", f"      {_literally(told)}", ""]
        return lines


class WireErrors(_Made):
    """
    C{.. wire-errors::}
    """

    def lines(self) -> list[str]:
        commands = importlib.import_module("punchd.wire.commands")
        lines = [".. list-table::", "   :header-rows: 1", ""]
        lines += ["   * - Code", "     - Meaning", "     - The connection"]
        for kind, code in commands.ERRORS.items():
            lines.append(f"   * - ``{code.decode()}``")
            lines.append(f"     - {_literally(' '.join((inspect.getdoc(kind) or '').split()))}")
            lines.append(f"     - {'ends' if kind in commands.FATAL else 'goes on'}")
        return lines


class Strategies(_Made):
    """
    C{.. strategies::}
    """

    def lines(self) -> list[str]:
        plugin = importlib.import_module("punchd.plugin")
        preferred = importlib.import_module("punchd.strategies.planning").preferred
        loaded = plugin.loadStrategies(
            [one for one in plugin.strategyMakers() if plugin.packageOf(one) == "punchd"]
        )
        lines = [".. list-table::", "   :header-rows: 1", ""]
        lines += ["   * - Name", "     - Version", "     - Lead", "     - Patience"]
        for name in preferred(list(loaded)):
            strategy = loaded[name]
            module = importlib.import_module(type(strategy).__module__)
            lines.append(f"   * - ``{name}``")
            lines.append(f"     - {strategy.version}")
            lines.append(f"     - {shown(module.LEAD)} s")
            lines.append(f"     - {shown(module.PATIENCE)} s")
        return lines


class NatKinds(_Made):
    """
    C{.. nat-kinds::}
    """

    def lines(self) -> list[str]:
        kinds = importlib.import_module("punchd.testing.natlab.kinds").KINDS
        lines = [".. list-table::", "   :header-rows: 1", "", "   * - Kind", "     - What it is"]
        lines += ["     - Mapping", "     - Filtering", "     - Unasked SYNs"]
        for kind in kinds.values():
            lines += [f"   * - ``{kind.name}``", f"     - {kind.title}"]
            lines += [f"     - {kind.mapping.value}", f"     - {kind.filtering.value}"]
            lines.append(f"     - {kind.unsolicited.value}")
        return lines


class Pairs(_Made):
    """
    C{.. pairs::}
    """

    def lines(self) -> list[str]:
        found = json.loads(_MATRIX.read_text("utf-8"))
        numbers = {kind["name"]: number for number, kind in enumerate(found["kinds"], 1)}
        cells = {(cell["caller"], cell["callee"]): cell for cell in found["pairs"]}
        lines = [".. list-table::", "   :header-rows: 1", "   :stub-columns: 1", "", "   * -"]
        lines += [f"     - {number}" for number in numbers.values()]
        for caller, number in numbers.items():
            lines.append(f"   * - {number} ``{caller}``")
            for callee in numbers:
                cell = cells.get((caller, callee))
                if cell is None:
                    lines.append("     -")
                elif cell["strategy"] is None:
                    lines.append("     - none")
                else:
                    lines.append(f"     - {cell['strategy']} {cell['roundTrips']:.1f}")
        return lines


class Contract(_Made):
    """
    C{.. contract::}
    """

    def lines(self) -> list[str]:
        contract = importlib.import_module("punchd.testing.contract").StrategyContract
        lines = []
        for name, test in vars(contract).items():
            if name.startswith("test_"):
                told = re.sub(
                    r"C\{(\w+)\}", r"``\1``", " ".join((inspect.getdoc(test) or "").split())
                )
                lines += [f"``{name}``", f"   {told}", ""]
        return lines


class Differences(_Made):
    """
    C{.. differences::}
    """

    def lines(self) -> list[str]:
        module = importlib.import_module("punchd.testing.internet.differences")
        lines = [".. list-table::", "   :header-rows: 1", ""]
        lines += ["   * - In memory", "     - Really"]
        for one in module.DIFFERENCES:
            lines += [f"   * - {_literally(one.here)}", f"     - {_literally(one.really)}"]
        for (caller, callee), why in module.PAIRS.items():
            lines += [f"   * - ``{caller}`` calls ``{callee}``", f"     - {_literally(why)}"]
        return lines


def setup(app: Sphinx) -> dict[str, Any]:
    """
    For Sphinx.
    """
    app.add_role("number", number)
    app.add_role("values", values)
    app.add_directive("twistd-options", TwistdOptions)
    app.add_directive("punchd-commands", PunchdCommands)
    app.add_directive("wire-errors", WireErrors)
    app.add_directive("strategies", Strategies)
    app.add_directive("nat-kinds", NatKinds)
    app.add_directive("pairs", Pairs)
    app.add_directive("contract", Contract)
    app.add_directive("differences", Differences)
    # What comes from the code is read anew in each build.
    return {"version": "1", "parallel_read_safe": True}
