"""
Two peers behind NATs of the lab: what path do they find? To be run as root, with punchd installed.

    python punch.py [STRATEGY]
"""

import sys

from punchd.testing.deployment import Deployment
from punchd.testing.natlab import NatLab

options = ["--strategies", sys.argv[1]] if sys.argv[1:] else []

with NatLab(delay=0.025) as lab, Deployment(lab.addPublic("server")) as deployment:
    for name, kind in ("alice", "port-restricted"), ("bob", "shifted"):
        deployment.addPeer(lab.addHost(name, kind), options=options)
    deployment.acquaint()
    deployment.start()
    found = deployment.peers["alice"].ping(deployment.peers["bob"])
    print(f"path: {found['path']}, by: {found['strategy']}, reason: {found['reason']}")
