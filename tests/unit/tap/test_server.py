"""
Tests for L{punchd.tap.server}: what the command line may say.
"""

import re
from pathlib import Path

import pytest
from twisted.python.usage import UsageError

from punchd.hooks.command import Command
from punchd.server.relaylimits import Bound, RelayLimits
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
    assert options["relay"] == "tcp:7764"
    assert options.relayLimits == RelayLimits()


@pytest.mark.parametrize(
    ("option", "bound"),
    [
        ("20", Bound(20, 4000)),
        ("20/off", Bound(20, None)),
        ("off", Bound(None, 4000)),
        ("2K/1m", Bound(2000, 1_000_000)),
        ("1G/3T", Bound(10**9, 3 * 10**12)),
    ],
)
def test_aLimitIsForOnePeerAndForAll(option: str, bound: Bound) -> None:
    limits = parse(f"--relay-paths={option}").relayLimits
    assert limits == RelayLimits(paths=bound)


def test_theRelaysLimitsMayStandInTheFile(tmp_path: Path) -> None:
    file = tmp_path / "punchd.toml"
    file.write_text('relay-rate = "2M/50M"\nrelay-time = 3600\nrelay-bytes = "off/off"\n', "utf-8")
    limits = parse("--config", str(file)).relayLimits
    assert limits.rate == Bound(2_000_000, 50_000_000)
    assert limits.bytes == Bound(None, None)
    assert limits.seconds == 3600


def test_aZoneIsServedAtTheUsualPorts() -> None:
    options = parse("--zone", "Peers.Example.org.")
    assert options["zone"] == "peers.example.org"
    assert options.many["dns"] == ["udp:53", "tcp:53"]
    assert (options.ttl, options.keep) == (30, 0)
    options = parse("--zone=a.b", "--dns=udp:1", "--dns=tcp:2", "--dns-ttl=1", "--dns-keep=60")
    assert options.many["dns"] == ["udp:1", "tcp:2"]
    assert (options.ttl, options.keep) == (1, 60)
    assert parse().many["dns"] == []


def test_theDNSNeedsAZone(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--dns needs --zone NAME" in refused(capsys, "--dns=udp:53")


def test_aZoneIsANameOfTheDNS(capsys: pytest.CaptureFixture[str]) -> None:
    assert "'a_b' cannot be a zone in the DNS" in refused(capsys, "--zone=a_b.example")


@pytest.mark.parametrize("seconds", ["-1", "x", "", "604801", "1e3"])
@pytest.mark.parametrize("option", ["--dns-ttl", "--dns-keep"])
def test_secondsAreANumber(capsys: pytest.CaptureFixture[str], option: str, seconds: str) -> None:
    assert f"{option} takes seconds" in refused(capsys, f"{option}={seconds}")


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
        ("--relay-paths", "0"),
        ("--relay-rate", "fast"),
        ("--relay-bytes", "1G/"),
        ("--relay-bytes", "1/2/3"),
        ("--relay-time", "-1"),
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


def test_aCommandMayBeRunOnChanges(tmp_path: Path) -> None:
    assert parse().command is None
    assert parse("--on-change", "tell 'a b'").command == Command(("tell", "a b"), 30)
    file = tmp_path / "punchd.toml"
    file.write_text('on-change = "tell bob"\non-change-deadline = 5\n', "utf-8")
    assert parse("--config", str(file)).command == Command(("tell", "bob"), 5)


def test_theHelpHasNoHolesInIt() -> None:
    # Twisted would keep the docstring's indentation within its lines.
    assert re.search(r"or one for( |\n +)TCP\. Repeatable\.", str(Options()))


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--on-change", ""], "--on-change takes a command"),
        (["--on-change", "tell 'bob"], "cannot be split into words: no closing quotation"),
        (["--on-change", "tell", "--on-change-deadline", "0"], "takes seconds, from 1 to 3600"),
        (["--on-change-deadline", "x"], "takes seconds, from 1 to 3600, not 'x'"),
    ],
)
def test_whatIsNoCommandIsWrongUsage(
    capsys: pytest.CaptureFixture[str], arguments: list[str], why: str
) -> None:
    assert why in refused(capsys, *arguments)
