"""
The howto for systemd and the units, against each other and the programs.
"""

from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest

from punchd.tap import peer, server
from tests.docs.test_snippets import STANDS_FOR

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "punchd/units"
EXAMPLES = ROOT / "docs/examples/systemd"
HOWTO = (ROOT / "docs/howto/systemd.rst").read_text("utf-8")


def unit(name: str) -> list[tuple[str, str]]:
    """
    What stands in a unit, but for its sections.
    """
    lines = (UNITS / name).read_text("utf-8").splitlines()
    return [tuple(line.split("=", 1)) for line in lines if "=" in line and line[0] != "#"]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("file", "tap"),
    [
        ("server.toml", server),
        ("dns.toml", server),
        ("tls.toml", server),
        ("peer.toml", peer),
        ("forward.toml", peer),
    ],
)
def test_theConfigurationFilesAreTaken(file: str, tap: Any) -> None:
    options = tap.Options()
    options.parseOptions([f"--config={EXAMPLES / file}"])
    assert f"../examples/systemd/{file}" in HOWTO


@pytest.mark.parametrize(("name", "tap"), [("server", server), ("peer", peer)])
def test_theUnitsStartWhatThereIs(name: str, tap: Any) -> None:
    [command] = [value for key, value in unit(f"punchd-{name}.service") if key == "ExecStart"]
    words = command.split()
    assert words[:3] == ["/opt/punchd/bin/twistd", "--nodaemon", "--pidfile="]
    assert words[3] == f"punchd-{name}"
    stands = {**STANDS_FOR, f"/etc/punchd/{name}.toml": str(EXAMPLES / f"{name}.toml")}
    options = tap.Options()
    options.parseOptions([stands.get(word, word) for word in words[4:]])
    assert options["state"] == f"%S/punchd-{name}"


def test_thePeersUnitIsAsTheHowtoSays() -> None:
    """
    It says that names differ, and by what the kernel is heard.
    """
    names = {"Description", "ExecStart", "SyslogIdentifier", "StateDirectory"}
    ours, theirs = (
        [(key, value) for key, value in unit(f"punchd-{name}.service") if key not in names]
        for name in ("server", "peer")
    )
    families = "RestrictAddressFamilies"
    assert dict(theirs)[families] == f"{dict(ours)[families]} AF_NETLINK"
    assert [each for each in ours if each[0] != families] == [
        each for each in theirs if each[0] != families
    ]
    assert len(ours) > 30


@pytest.mark.parametrize("file", ["low-ports.conf", "dns-sockets.conf", "tls.conf"])
def test_theDropInsAreOfThatForm(file: str) -> None:
    parser = ConfigParser(interpolation=None)
    parser.read(EXAMPLES / file)
    assert parser.sections() == ["Service"]
    assert f"../examples/systemd/{file}" in HOWTO
