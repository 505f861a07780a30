"""
What the README and the manual tell people to type, against the programs themselves.

Blocks of restructuredText that hold shell commands are read as a shell reads them, and each command
of punchd's goes to the parser that it would go to.
"""

import os
import re
import shlex
import tomllib
from argparse import _SubParsersAction
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from punchd.cli.main import _parser
from punchd.tap import peer, server

ROOT = Path(__file__).parents[2]
JOIN = "server.example.org:7761#" + 64 * "0"

#: Texts with commands in them.
TEXTS = [
    ROOT / "README.rst",
    *sorted((ROOT / "docs").rglob("*.rst")),
    ROOT / "docs/examples/first-tunnel/tunnel.sh",
    ROOT / "docs/examples/configuration/ssh_config",
]

#: What stands in the texts for what people have.
STANDS_FOR = {
    "$JOIN": JOIN,
    "JOIN": JOIN,
    "$(cat server/join)": JOIN,
    "$BOB": 64 * "0",
    "$ALICE": 64 * "0",
    "server.toml": str(ROOT / "docs/examples/configuration/server.toml"),
    "peer.toml": str(ROOT / "docs/examples/configuration/peer.toml"),
    "/etc/punchd/server.toml": str(ROOT / "docs/examples/systemd/server.toml"),
}


@frozen
class Told:
    """
    A command that a text shows.
    """

    text: Path
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.text.relative_to(ROOT)}: {' '.join(self.words)}"


def _plain(command: str) -> str:
    return re.sub(r"^(\.venv|/opt/punchd)/bin/", "", command)


def commandsIn(line: str) -> Iterator[tuple[str, ...]]:
    """
    The commands of punchd's in one line for a shell.
    """
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;<>()")
    lexer.whitespace_split = True
    try:
        words = [*lexer, ";"]
    except ValueError:
        return
    command: list[str] = []
    for word in words:
        if set(word) <= set("&|;<>()"):
            if command and _plain(command[0]) in ("twistd", "punchd"):
                yield tuple(command)
            command = []
        else:
            if word.startswith("ProxyCommand="):
                yield from commandsIn(word.removeprefix("ProxyCommand="))
            command.append(word)


def linesOf(path: Path) -> Iterator[str]:
    text = path.read_text("utf-8").replace("\\\n", " ")
    # Only quoted things end in a quotation mark, and substitutions have been made.
    text = re.sub(r'"\$\(punchd id[^)]*\)"', f'"{64 * "0"}"', text)
    text = re.sub(r"\d?>/dev/null", "", text)
    for line in text.splitlines():
        inlined = re.findall(r"``((?:twistd|punchd|ssh) [^`]+)``", line)
        if inlined or (path.suffix == ".rst" and not line.startswith("   ")):
            # What is not indented is prose.
            yield from inlined
        else:
            yield line.strip().removeprefix("ProxyCommand ")


def told() -> list[Told]:
    found = []
    for path in TEXTS:
        for line in linesOf(path):
            if not re.match(r"(\S+/)?(twistd|punchd|ssh|python3|printf|until) ", line):
                continue
            for words in commandsIn(line.replace("until ", "")):
                if not re.fullmatch(r"--?\w[\w-]*|[a-z]\w*(-\w+)*", words[1]):
                    continue
                found.append(Told(path, tuple(STANDS_FOR.get(word, word) for word in words)))
    return found


TOLD = told()


def programOf(one: Told) -> str:
    return _plain(one.words[0])


TWISTD = [one for one in TOLD if programOf(one) == "twistd"]
PUNCHD = [one for one in TOLD if programOf(one) == "punchd"]

#: Commands that prose may name without the arguments that they need.
NAMED = {"connect", "ping", "trust"}

#: Options of other programs that the manual speaks of.
OTHERS = {"help", "nodaemon", "pidfile", "logfile", "syslog"}


def test_theTextsShowCommands() -> None:
    """
    So the tests below do test something.
    """
    assert len(TWISTD) > 15
    assert len(PUNCHD) > 15


@pytest.mark.parametrize("one", TWISTD, ids=str)
def test_twistdTakesWhatTheTextsShow(one: Told, capsys: pytest.CaptureFixture[str]) -> None:
    words = list(one.words[1:])
    if words == ["--help"]:
        return
    options: Any = None
    for name, module in ("punchd-server", server), ("punchd-peer", peer):
        if name in words:
            options, rest = module.Options(), words[words.index(name) + 1 :]
    assert options is not None, "neither the server nor the peer"
    if not rest or rest == ["--help"]:
        return
    if "punchd-peer" in words and not {"--name", "--config"} & set(rest):
        pytest.fail("a peer needs a name")
    try:
        options.parseOptions(rest)
    except SystemExit:
        pytest.fail(capsys.readouterr().err)


@pytest.mark.parametrize("one", PUNCHD, ids=str)
def test_punchdTakesWhatTheTextsShow(one: Told, capsys: pytest.CaptureFixture[str]) -> None:
    words = list(one.words[1:])
    if words[0] in NAMED and set(words[1:]) <= {"--json"}:
        return
    try:
        _parser().parse_args(words)
    except SystemExit:
        pytest.fail(capsys.readouterr().err)


def optionsThereAre() -> set[str]:
    found = set(OTHERS)
    for module in (peer, server):
        options = module.Options
        found |= {row[0] for row in [*options.optParameters, *getattr(options, "optFlags", [])]}
        found |= {name.removeprefix("opt_") for name in vars(options) if name.startswith("opt_")}
    [commands] = [one for one in _parser()._actions if isinstance(one, _SubParsersAction)]
    for command in commands.choices.values():
        found |= {text.removeprefix("--") for text in command._option_string_actions}
    return found


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_everyOptionThatIsNamedExists(path: Path) -> None:
    named = set(re.findall(r"``--([a-z][a-z-]*)", path.read_text("utf-8")))
    assert named <= optionsThereAre()


def test_theReadmeBeginsWithTwoCommands() -> None:
    """
    One that sets up and shows it, and one that tests it; a build server runs the second.
    """
    readme = (ROOT / "README.rst").read_text("utf-8")
    blocks = re.findall(r"\.\. code-block:: sh\n\n((?:   .*\n)+)", readme)
    demo, tests, *_ = [block.strip() for block in blocks]
    assert demo == ("python3 -m venv .venv && .venv/bin/pip install -q . && .venv/bin/punchd demo")
    assert tests == "./tests/all"
    assert os.access(ROOT / tests, os.X_OK)
    run = (ROOT / ".ci/run").read_text("utf-8").splitlines()
    assert f"exec {tests}" in run


def test_theReadmeShowsSshInFiveLines() -> None:
    readme = (ROOT / "README.rst").read_text("utf-8")
    [block] = [
        block
        for block in re.findall(r"\.\. code-block:: sh\n\n((?:   .*\n)+)", readme)
        if "ssh -o" in block
    ]
    assert len(block.splitlines()) == 5


@pytest.mark.parametrize("path", sorted(ROOT.glob("**/*.rst")), ids=lambda path: path.name)
def test_linkedFilesAreThere(path: Path) -> None:
    if any(part.startswith(".") for part in path.relative_to(ROOT).parts):
        return
    for target in re.findall(r"<([\w./-]+\.(?:rst|svg|py|json))>`_", path.read_text("utf-8")):
        assert (path.parent / target).is_file(), target


@pytest.mark.parametrize(
    ("name", "module"), [("server", server), ("peer", peer)], ids=["server", "peer"]
)
def test_theConfigurationFileIsTaken(name: str, module: Any, tmp_path: Path) -> None:
    path = ROOT / f"docs/examples/configuration/{name}.toml"
    options = module.Options()
    options.parseOptions(["--config", str(path)])
    for key, value in tomllib.loads(path.read_text("utf-8")).items():
        wanted = value if isinstance(value, list) else [value]
        assert options.many.get(key, [options[key]] if key in options else None) == wanted, key
