"""
Tests for L{punchd.net.own}, against what the kernel says elsewhere.
"""

import json
import socket
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from punchd.net.own import ownAddresses, sourceToward
from punchd.values.addresses import makeAddress
from tests.files import withoutFiles

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")


def localAddresses() -> set[str]:
    """
    All IPv4 addresses of this host, from the kernel's routing trie: each C{/32 host LOCAL} follows
    the line with its address.
    """
    lines = Path("/proc/net/fib_trie").read_text().splitlines()
    return {
        before.split()[-1]
        for before, line in pairwise(lines)
        if line.split()[:3] == ["/32", "host", "LOCAL"]
    }


def test_theAddressesAreThoseThatTheKernelRoutesToItself() -> None:
    found = ownAddresses()
    assert "127.0.0.1" in found
    assert set(found) <= localAddresses()
    assert len(set(found)) == len(found)


def test_withoutAFileDescriptorTheSystemDoesNotTell() -> None:
    with withoutFiles():
        assert ownAddresses() == []


def test_everyInterfaceAndEveryFurtherAddressIsFound() -> None:
    """
    In a network of its own, where there may be made some.
    """
    commands = (
        "ip link set lo up",
        "ip link add one type veth peer name two",
        "ip addr add 10.1.0.1/24 dev one",
        "ip addr add 10.1.0.2/24 dev one",
        "ip addr add 10.2.0.1/24 dev two label two:more",
        "ip link set one up",
        "ip link set two up",
        "ip link add asleep type veth peer name asleep-too",
        "ip addr add 10.3.0.1/24 dev asleep",
        f"{sys.executable} -c 'import json; from punchd.net.own import ownAddresses; "
        "print(json.dumps(ownAddresses()))'",
    )
    argv = ["unshare", "--net", "sh", "-ec", "\n".join(commands)]
    done = subprocess.run(argv, capture_output=True, text=True)
    if "Operation not permitted" in done.stderr:
        pytest.skip("only root may make a network")
    assert done.returncode == 0, done.stderr
    assert sorted(json.loads(done.stdout)) == ["10.1.0.1", "10.1.0.2", "10.2.0.1", "127.0.0.1"]


def test_towardOurselvesWeComeFromThere() -> None:
    assert sourceToward(makeAddress("127.0.0.1", 9)) == "127.0.0.1"


def test_itIsTheAddressThatAConnectionHas() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as connection:
            source = sourceToward(makeAddress("127.0.0.1", port))
            assert connection.getsockname()[0] == source


def test_whereNoRouteLeadsThereIsNone() -> None:
    # Multicast without an interface, and port 0 of a host that cannot be.
    assert sourceToward(makeAddress("255.255.255.255", 9)) is None
