"""
Doorstep between real processes, behind real NATs of the Linux kernel.
"""

from punchd.testing.deployment import Deployment

pytest_plugins = ["punchd.testing.fixtures"]


def test_itWinsTheRace(natlab):
    race = ["--strategies", "doorstep,simultaneous"]
    with Deployment(natlab.addPublic("server")) as deployment:
        for name, kind in ("alice", "port-restricted"), ("bob", "public"):
            deployment.addPeer(natlab.addHost(name, kind), options=race)
        deployment.acquaint()
        deployment.start()
        for one, other in ("alice", "bob"), ("bob", "alice"):
            found = deployment.peers[one].ping(deployment.peers[other])
            assert (found["path"], found["strategy"]) == ("direct", "doorstep")
