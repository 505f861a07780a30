"""
Tests for L{punchd.tap.server}: what the command line may say.
"""

from pathlib import Path

import pytest
from twisted.python.usage import UsageError

from punchd.tap.server import Options


def parse(*arguments: str) -> Options:
    options = Options()
    options.parseOptions(list(arguments))
    return options


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """
    The one line on standard error, and exit status 2.
    """
    with pytest.raises(SystemExit) as caught:
        parse(*arguments)
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("punchd-server: ")
    assert said.count("\n") == 1
    return said


def test_theDefaultsAreThoseOfTheManual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.getfqdn", lambda: "box.example")
    options = parse()
    assert options["master"] == "tcp:7761"
    assert options.many["assist"] == ["tcp:7762", "tcp:7763"]
    assert options.many["host"] == ["box.example"]
    assert options["registry"] is None


def test_hostsAndAssistsMayBeRepeated() -> None:
    options = parse("--host", "a.example", "--host", "192.0.2.1", "--assist", "tcp:1")
    assert options.many["host"] == ["a.example", "192.0.2.1"]
    assert options.many["assist"] == ["tcp:1"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--host", "two words"),
        ("--nonsense",),
        ("--master",),
        ("surplus",),
        ("--certificate", "cert.pem"),
        ("--private-key", "key.pem"),
        ("--config", "/nonexistent/punchd.toml"),
    ],
)
def test_mistakesAreOneLineAndStatus2(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    refused(capsys, *arguments)


def test_aFileHoldsTheSameOptions(tmp_path: Path) -> None:
    file = tmp_path / "punchd.toml"
    file.write_text(
        'master = "tcp:1"\nhost = ["a.example", "b.example"]\nregistry = "memory:"\n', "utf-8"
    )
    options = parse("--config", str(file), "--host", "c.example")
    assert options["master"] == "tcp:1"
    assert options["registry"] == "memory:"
    assert options.many["host"] == ["c.example"]


def test_theCommandLineWinsWithTheDefaultToo(tmp_path: Path) -> None:
    file = tmp_path / "punchd.toml"
    file.write_text('master = "tcp:443"\n', "utf-8")
    assert parse("--config", str(file), "--master", "tcp:7761")["master"] == "tcp:7761"


def test_anUnknownNameInTheFileIsAMistake(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "punchd.toml"
    file.write_text('cache = "tcp:1"\n', "utf-8")
    assert "'cache'" in refused(capsys, "--config", str(file))


def test_theHelpNamesEveryOption() -> None:
    said = str(Options())
    for name in ("state", "host", "master", "assist", "registry", "certificate", "config"):
        assert f"--{name}=" in said


def test_aMistakeIsNoUsageErrorForTwistd() -> None:
    # twistd would print the whole help before it.
    with pytest.raises(SystemExit):
        parse("--nonsense")
    assert not issubclass(SystemExit, UsageError)
