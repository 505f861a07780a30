"""
The tutorial's programs, run as somebody who follows it would.
"""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIRST_TUNNEL = ROOT / "docs/examples/first-tunnel/tunnel.sh"


def freePorts(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def test_theFirstTunnelCarriesWhatTheTutorialSays(tmp_path: Path) -> None:
    web, forward, master, relay, *assists = freePorts(6)
    script = FIRST_TUNNEL.read_text("utf-8")
    for shown, here in (("8000", str(web)), ("8080", str(forward))):
        assert shown in script
        script = script.replace(shown, here)
    # The lesson takes the ports that punchd takes; others may be using them here.
    endpoints = [
        f"--master tcp:{master}:interface=127.0.0.1",
        *(f"--assist tcp:{port}:interface=127.0.0.1" for port in assists),
        f"--relay tcp:{relay}:interface=127.0.0.1",
    ]
    script, changed = re.subn(r"(punchd-server) ", rf"\1 {' '.join(endpoints)} ", script)
    assert changed == 1

    done = subprocess.run(
        ["sh"],
        input=script,
        capture_output=True,
        text=True,
        timeout=60,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "TMPDIR": str(tmp_path),
            "PYTHONPATH": str(ROOT),
        },
    )

    assert done.returncode == 0, done.stderr
    assert re.search(r"^bob: direct by \w+, round trip [\d.]+ ms$", done.stdout, re.MULTILINE)
    # Once by the forward, once by `punchd connect`.
    assert done.stdout.count("Hello from behind the NAT") == 2
    assert re.search(r"^link bob: direct by ", done.stdout, re.MULTILINE)
    assert re.search(r"introduction [0-9a-f]{8}: GO; the plan: ", done.stdout)


@pytest.mark.parametrize(
    "page", [ROOT / "docs/tutorial/first-tunnel.rst", ROOT / "docs/tutorial/first-strategy.rst"]
)
def test_everyPartThatTheTutorialShowsIsInTheProgram(page: Path) -> None:
    text = page.read_text("utf-8")
    for name in re.findall(r":start-after: \[(\w+)\]", text):
        assert f"# [{name}]\n" in FIRST_TUNNEL.read_text("utf-8")
    for name in re.findall(r"literalinclude:: (\S+)", text):
        assert (page.parent / name).is_file()
