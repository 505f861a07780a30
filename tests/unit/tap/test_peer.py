"""
Tests for L{punchd.tap.peer} and L{punchd.tap.options}: the command line and the file.
"""

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from punchd.errors import ConfigurationError
from punchd.hooks.command import Command
from punchd.strategies.lan import Lan
from punchd.strategies.simultaneous import Simultaneous
from punchd.tap.options import defaultState
from punchd.tap.peer import Options, chosenStrategies, makePeer

NEEDED = ["--name=alice", "--server=example.org"]


def parsed(*arguments: str) -> Options:
    options = Options()
    options.parseOptions(list(arguments))
    return options


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """
    What is said on standard error, when it is one line and the status is 2.
    """
    with pytest.raises(SystemExit) as caught:
        parsed(*arguments)
    assert caught.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("punchd-peer: ")
    assert said.err.count("\n") == 1
    return said.err


def test_whatIsRepeatableIsCollected() -> None:
    options = parsed(*NEEDED, "--server=b.example", "--expose=a=tcp:1", "--expose=b=tcp:2")
    assert options.many["server"] == ["example.org", "b.example"]
    assert options.many["expose"] == ["a=tcp:1", "b=tcp:2"]


def test_twoParsersShareNothing() -> None:
    parsed(*NEEDED, "--allow=bob")
    assert parsed(*NEEDED).many["allow"] == []


def test_theStateIsWhereXDGSays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/somewhere")
    assert parsed(*NEEDED)["state"] == "/somewhere/punchd-peer"


def test_withoutXDGTheStateIsAtHome(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/alice")
    assert defaultState("punchd-peer") == "/home/alice/.local/state/punchd-peer"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--server=a"], "say --name NAME"),
        (["--name=alice"], "say --server HOST"),
        (["--name=a b", "--server=a"], "cannot be a --name"),
        (["--name=alice", "--server=a:x"], "expected HOST:PORT"),
        (["--name=alice", "--server=a:²"], "expected HOST:PORT"),
        (["--name=alice", "--server=a#12"], "is no server's pin"),
        ([*NEEDED, "--expose=web"], "expected --expose NAME="),
        ([*NEEDED, "--expose=w b=tcp:1"], "cannot be a name in --expose"),
        ([*NEEDED, "--expose=web=proxy-v3:tcp:1"], "there are proxy-v1 and proxy-v2"),
        ([*NEEDED, "--expose=web=proxy-v2:"], "behind 'proxy-v2:': say proxy-v2:tcp:127.0.0.1:80"),
        ([*NEEDED, "--expose=web=proxy-v1"], "behind 'proxy-v1': say proxy-v1:tcp:127.0.0.1:80"),
        ([*NEEDED, "--forward=2222"], "expected --forward LISTEN="),
        ([*NEEDED, "--forward=2222=bob"], "expected PEER/SERVICE"),
        ([*NEEDED, "--forward=99999=bob/ssh"], "there is no port 99999"),
        ([*NEEDED, "--publish=web=x"], "expected --publish SERVICE[=PORT]"),
        ([*NEEDED, "--allow=b b"], "--allow"),
        ([*NEEDED, "--allow=bob="], "--allow"),
        ([*NEEDED, "--nonsense"], "nonsense"),
        ([*NEEDED, "stray"], "what is 'stray'"),
        ([*NEEDED, "--config=/nonexistent/file"], "cannot read /nonexistent/file"),
    ],
)
def test_aMistakeIsOneLineAndStatus2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    assert reason in refusal(capsys, *arguments)


# The file.


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "peer.toml"


def test_theFileHoldsTheSameOptions(file: Path) -> None:
    file.write_text(
        'name = "alice"\nserver = ["a.example", "b.example"]\nexpose = "web=tcp:80"\n'
        'state = "/somewhere"\nno-relay = true\n'
    )
    options = parsed(f"--config={file}")
    assert (options["name"], options["state"]) == ("alice", "/somewhere")
    assert options.many["server"] == ["a.example", "b.example"]
    assert options.many["expose"] == ["web=tcp:80"]
    assert options["no-relay"]


def test_theCommandLineWins(file: Path) -> None:
    file.write_text('name = "fromfile"\nstate = "/fromfile"\nserver = "a.example"\n')
    options = parsed(f"--config={file}", "--name=alice", "--state=/here")
    assert (options["name"], options["state"]) == ("alice", "/here")


def test_theCommandLineReplacesWhatIsRepeatable(file: Path) -> None:
    file.write_text('name = "alice"\nserver = ["a.example", "b.example"]\n')
    assert parsed(f"--config={file}", "--server=c.example").many["server"] == ["c.example"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"name = ", "is no TOML"),
        (b"\xff\xfe", "is no TOML"),
        (b"nonsense = 1", "there is no option 'nonsense'"),
        (b'config = "another"', "there is no option 'config'"),
        (b"name = 1.5", "name takes a text"),
        (b'name = ["alice"]', "name takes a text"),
        (b"server = [1.5]", "server takes text, or a list of texts"),
        (b"server = {a = 1}", "server takes text, or a list of texts"),
        (b'no-relay = "yes"', "no-relay is true or false"),
        (b"[section]\nname = 'alice'", "there is no option 'section'"),
        (b'name = "a b"\nserver = "a"', "cannot be a --name"),
    ],
)
def test_aMistakeInTheFileIsOneLineAndStatus2(
    capsys: pytest.CaptureFixture[str], file: Path, content: bytes, reason: str
) -> None:
    file.write_bytes(content)
    assert reason in refusal(capsys, f"--config={file}")


@pytest.mark.parametrize("content", [b"name = ", b"name = 1.5", b"nonsense = 1"])
def test_aMistakeInTheFileNamesTheFile(
    capsys: pytest.CaptureFixture[str], file: Path, content: bytes
) -> None:
    file.write_bytes(content)
    assert str(file) in refusal(capsys, f"--config={file}")


# Making the peer.

INSTALLED = {"lan": Lan(), "simultaneous": Simultaneous()}


def test_withoutChoiceAllStrategiesAreUsed() -> None:
    assert chosenStrategies(None, INSTALLED) is None


def test_theChosenStrategiesKeepTheirOrder() -> None:
    names = chosenStrategies("simultaneous, lan,simultaneous", INSTALLED)
    assert names == ["simultaneous", "lan"]


@pytest.mark.parametrize("text", ["magic", "", "lan,", "lan;simultaneous"])
def test_aStrategyThatIsNotInstalledIsAConfigurationError(text: str) -> None:
    with pytest.raises(ConfigurationError, match="installed: lan, simultaneous"):
        chosenStrategies(text, INSTALLED)


def test_thePeerIsWhatTheOptionsSay(tmp_path: Path) -> None:
    options = parsed(*NEEDED, f"--state={tmp_path}", "--expose=web=tcp:localhost:80")
    clock: Any = Clock()
    facts = makePeer(options, clock).describe()
    assert (facts["name"], facts["exposes"], facts["master"]) == ("alice", ["web"], "connecting")
    assert [server["server"] for server in facts["servers"]] == ["example.org:7761"]


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("--expose=web=nonsense:1", "--expose: 'nonsense:1' is no endpoint"),
        ("--expose=web=proxy-v2:nonsense:1", "--expose: 'nonsense:1' is no endpoint"),
        ("--expose=ssh=22", "'22' is no endpoint: .*; try tcp:HOST:PORT or unix:PATH"),
        ("--expose=ssh=tcp:22", "'tcp:22' is no endpoint: .*; try tcp:HOST:PORT or unix:PATH"),
        ("--forward=nonsense:x=bob/web", "--forward: 'nonsense:x' is no endpoint"),
        ("--strategies=magic", "there is no strategy 'magic'"),
        ("--publish=web", "--publish web: there is no such service; say --expose web="),
        ("--ca=/nonexistent/roots.pem", "no certificates"),
    ],
)
def test_whatDoesNotFitTogetherIsAConfigurationError(
    tmp_path: Path, option: str, reason: str
) -> None:
    options = parsed(*NEEDED, f"--state={tmp_path}", option)
    clock: Any = Clock()
    with pytest.raises(ConfigurationError, match=reason):
        makePeer(options, clock)


def test_aServiceIsExposedOnce(tmp_path: Path) -> None:
    twice = ["--expose=web=tcp:localhost:80", "--expose=web=tcp:localhost:81"]
    clock: Any = Clock()
    with pytest.raises(ConfigurationError, match="given twice"):
        makePeer(parsed(*NEEDED, f"--state={tmp_path}", *twice), clock)


def test_whatIsPublishedIsExposedToo(tmp_path: Path) -> None:
    exposed = ["--expose=web=tcp:localhost:80", "--expose=db=tcp:localhost:5432"]
    clock: Any = Clock()
    options = parsed(*NEEDED, f"--state={tmp_path}", *exposed, "--publish=web=8080")
    assert set(makePeer(options, clock).describe()["published"]) == {"web"}


def test_aServiceIsPublishedOnce(tmp_path: Path) -> None:
    twice = ["--expose=web=tcp:localhost:80", "--publish=web", "--publish=web=81"]
    clock: Any = Clock()
    with pytest.raises(ConfigurationError, match="--publish web is given twice"):
        makePeer(parsed(*NEEDED, f"--state={tmp_path}", *twice), clock)


def test_whatIsPublishedMayStandInTheFile(tmp_path: Path) -> None:
    file = tmp_path / "peer.toml"
    file.write_text('publish = ["web", "ssh=22"]\n')
    assert parsed(*NEEDED, f"--config={file}").many["publish"] == ["web", "ssh=22"]


@pytest.mark.parametrize("text", ["-1", "2001", "many", "", "1.5", "99999"])
def test_guessesAreANumberWithinTheBudget(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(capsys, *NEEDED, f"--guesses={text}")
    assert "--guesses takes a number from 0 to 2000" in said


@pytest.mark.parametrize(("guesses", "isOffered"), [("0", False), ("1", True), ("2000", True)])
def test_withoutGuessesNothingThatGuessesIsOffered(
    tmp_path: Path, guesses: str, isOffered: bool
) -> None:
    peer = makePeer(parsed(*NEEDED, f"--state={tmp_path}", f"--guesses={guesses}"), Clock())
    names = {name for name, _ in peer.punches.offer.strategies}
    assert ({"predicted", "birthday"} <= names) is isOffered
    assert ("birthday" in names) is isOffered
    assert "simultaneous" in names


def test_guessesMayStandInTheFile(tmp_path: Path) -> None:
    file = tmp_path / "peer.toml"
    file.write_text("guesses = 0\n")
    assert parsed(*NEEDED, f"--config={file}")["guesses"] == "0"


@pytest.mark.parametrize(("flags", "takes"), [([], True), (["--no-relay"], False)])
def test_withoutARelayNoneIsTaken(tmp_path: Path, flags: list[str], takes: bool) -> None:
    peer = makePeer(parsed(*NEEDED, f"--state={tmp_path}", *flags), Clock())
    assert peer.punches.offer.takesRelay is takes


def test_aNameInOtherLettersHasAFormOfItsOwn() -> None:
    options = parsed("--server=example.org", "--name=bücher", "--publish-address")
    assert options["name"] == "xn--bcher-kva"
    assert options["publish-address"]


def test_aNameThatTheDNSDoesNotHaveCannotAppearThere(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--server=example.org", "--name=bob_1")
    assert parsed(*arguments)["name"] == "bob_1"
    said = refusal(capsys, *arguments, "--publish-address")
    assert "'bob_1' cannot be a name in the DNS: use 1 to 63 letters, digits or '-'" in said


def test_thePeerIsMadeToAppear(tmp_path: Path) -> None:
    for option, listed in (("--publish-address", True), ("--no-relay", False)):
        peer = makePeer(parsed(*NEEDED, f"--state={tmp_path / option}", option), Clock())
        assert peer.clients[0].listing.hasAddress is listed


@pytest.mark.parametrize("text", ["0", "-1", "1537", "many", "", "1e3"])
def test_streamsAreANumberThatALinkHasRoomFor(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refusal(capsys, *NEEDED, f"--streams={text}")
    assert "--streams takes a number from 1 to 1536" in said


def test_aLinkCarriesAsManyStreamsAsItIsTold(tmp_path: Path) -> None:
    peer = makePeer(parsed(*NEEDED, f"--state={tmp_path}", "--streams=7"), Clock())
    assert peer.links._limits.streams == 7


def test_aCommandMayBeRunOnChanges() -> None:
    assert parsed(*NEEDED).command is None
    options = parsed(*NEEDED, "--on-change=tell 'a b'", "--on-change-deadline=9")
    assert options.command == Command(("tell", "a b"), 9)


def test_whatIsNoCommandIsWrongUsage(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no closing quotation" in refusal(capsys, *NEEDED, "--on-change=tell 'bob")
    assert "--on-change takes a command" in refusal(capsys, *NEEDED, "--on-change=")
