"""
The handle by which a test tells a program in a namespace what to do.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from punchd.testing.natlab import Host
from tests.natlab import agent

Address = tuple[str, int]


class Agent:
    """
    One L{agent.Program}, running on a host of the lab until the lab ends.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self._process: subprocess.Popen[str] = host.popen(
            [sys.executable, "-IS", agent.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def _do(self, command: str, **arguments: Any) -> Any:
        """
        The answer to one command.
        """
        questions, answers = self._process.stdin, self._process.stdout
        assert questions is not None
        assert answers is not None
        questions.write(json.dumps({"command": command, **arguments}) + "\n")
        questions.flush()
        answer = json.loads(answers.readline())
        if "error" in answer:
            raise OSError(f"{command} on {self.host.name}: {answer['error']}")
        return answer["answer"]

    def serve(self, port: int, ipv6: bool = False) -> None:
        """
        Tell everybody who connects to the port the address they come from.
        """
        self._do("serve", port=port, ipv6=ipv6)

    def start(self, port: int, to: Address) -> int:
        """
        Begin to connect from the port; the number of the attempt.
        """
        return int(self._do("start", port=port, to=to))

    def finish(self, attempt: int, timeout: float) -> str:
        """
        Wait for an attempt; "connected", "timeout" or the name of an error.
        """
        return str(self._do("finish", attempt=attempt, timeout=timeout)["outcome"])

    def dial(self, port: int, to: Address, timeout: float) -> str:
        """
        Connect from the port; how it ended, as L{finish} says it.
        """
        return str(self._do("dial", port=port, to=to, timeout=timeout)["outcome"])

    def timed(self, to: Address) -> float:
        """
        The seconds that it takes to connect.
        """
        result = self._do("dial", port=0, to=to, timeout=5.0)
        assert result["outcome"] == "connected", result
        return float(result["took"])

    def observe(self, port: int, to: list[Address]) -> list[Address]:
        """
        Connect from one port to several servers; the addresses that they saw.
        """
        return self.observeAll([port], to)[0]

    def observeAll(self, ports: list[int], to: list[Address]) -> list[list[Address]]:
        """
        The same from many ports at once.
        """
        seen = self._do("observe", ports=ports, to=to)
        return [[(address, port) for address, port in each] for each in seen]

    def watch(self, port: int) -> None:
        """
        Begin to look for a SYN to the port.
        """
        self._do("watch", port=port)

    def watched(self) -> Address:
        """
        Where the SYN came from.
        """
        address, port = self._do("watched")
        return address, port

    def refusal(self, to: Address, timeout: float) -> str:
        """
        What answers a SYN: "drop", "reset" or "icmp", or "connected".
        """
        return str(self._do("refusal", to=to, timeout=timeout))

    def release(self) -> None:
        """
        Close everything that the agent opened.
        """
        self._do("release")
