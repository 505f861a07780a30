"""
Tests for L{punchd.net.rerouting}, with a real kernel, in a network of their own.
"""

import json
import subprocess
import sys
from typing import Any

import pytest
from twisted.internet.task import Clock

from punchd.net.rerouting import watchRoutes
from tests.files import withoutFiles
from tests.unit.testing.internet.ends import World

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")

# Says how often it was called by the end of each step.
PROGRAM = """
import json, subprocess, sys
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react
from punchd.net.rerouting import watchRoutes

async def main(reactor):
    calls, counts = [], []
    stop = watchRoutes(reactor, lambda: calls.append(None))
    for step in sys.argv[1:]:
        if step == "stop":
            stop()
        elif step:
            subprocess.run(["sh", "-ec", step], check=True)
        await deferLater(reactor, 0.2)
        counts.append(len(calls))
        calls.clear()
    print(json.dumps(counts))

react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
"""


def heard(*steps: str) -> list[int]:
    """
    How often the kernel has called after each step.
    """
    program = [sys.executable, "-c", PROGRAM, *steps]
    done = subprocess.run(["unshare", "--net", *program], capture_output=True, text=True)
    if "Operation not permitted" in done.stderr:
        pytest.skip("only root may make a network")
    assert done.returncode == 0, done.stderr
    counts: list[int] = json.loads(done.stdout)
    return counts


def test_addressesAndRoutesAreHeardOf() -> None:
    counts = heard(
        "ip link set lo up",
        "",
        "ip addr add 10.1.0.1/24 dev lo",
        "ip route add 10.2.0.0/16 via 10.1.0.1",
        "ip -6 addr add 2001:db8::1/64 dev lo",
        "ip addr del 10.1.0.1/24 dev lo",
        "",
    )
    assert [bool(count) for count in counts] == [True, False, True, True, True, True, False]


def test_moreThanTheSocketHoldsIsHeardOf() -> None:
    routes = "for i in $(seq 250); do for j in $(seq 40); do echo route add 10.$i.$j.0/24 dev lo; "
    many = f"ip link set lo up; ({routes} done; done) | ip -batch -"
    counts = heard(many, "ip addr add 10.0.0.1/8 dev lo", "")
    assert [bool(count) for count in counts] == [True, True, False]


def test_afterTheEndNothingIsHeard() -> None:
    assert heard("stop", "ip link set lo up; ip addr add 10.1.0.1/24 dev lo") == [0, 0]


def test_withoutAFileDescriptorNobodyHearsAnything() -> None:
    reactor: Any = Clock()
    with withoutFiles():
        stop = watchRoutes(reactor, lambda: None)
    stop()


def test_whoHasANetworkOfItsOwnHearsNothingOfTheSystems() -> None:
    reactor = World("public", "public").alice.host.reactor
    stop = watchRoutes(reactor, lambda: None)
    assert reactor.getReaders() == []
    stop()
