"""
Network namespaces: naming, making, entering, and leaving nothing behind.

Every namespace of a lab is named C{natlab-<pid>-<lab>-<site>}: labs of many
processes, and many of one, live side by side, and those whose process died
without cleaning up can be told apart and removed.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

_RUN = Path("/run/netns")  # where iproute2 keeps named namespaces
_NAME = re.compile(r"natlab-(\d+)-(\d+)-")
_labs = itertools.count(1)
_living: set[str] = set()


class LabError(Exception):
    """
    The kernel or one of its tools refused something while a lab was built.
    """


def _tool(argv: Sequence[str], text: str) -> None:
    """
    Run one of the tools with C{text} as its input.
    """
    done = subprocess.run(argv, input=text, capture_output=True, text=True)
    if done.returncode != 0:
        # One wrong line can make the tool complain of hundreds.
        raise LabError(f"{' '.join(argv)}: {done.stderr.strip()[:1000]}")


def ip(commands: Iterable[str], namespace: str | None = None, *, family: int = 4) -> None:
    """
    Run many commands of C{ip}, without that word, in one process.

    @param namespace: Where, if not in the root namespace, in which nothing but
        namespaces may be made.
    @param family: 6 for what is said of IPv6.
    """
    where = [] if namespace is None else ["-n", namespace]
    if family == 6:
        where = ["-6", *where]
    _tool(["ip", *where, "-batch", "-"], "\n".join(commands) + "\n")


def inside(namespace: str) -> list[str]:
    """
    What to put before a program's arguments to run it in the namespace.
    """
    return ["ip", "netns", "exec", namespace]


def tool(namespace: str, argv: Sequence[str], text: str) -> None:
    """
    Run a program in the namespace, with C{text} as its input.
    """
    _tool([*inside(namespace), *argv], text)


_SETTINGS = {
    "ipv4/ip_forward": 1,
    # Packets with foreign or untranslated sources must travel as on a network
    # whose routers do not check; the larger of "all" and the interface counts.
    "ipv4/conf/all/rp_filter": 0,
    "ipv4/conf/default/rp_filter": 0,
    # What passes a LAN does not pass the router's rules, even where the machine
    # has been told so for its own bridges.
    "bridge/bridge-nf-call-iptables": 0,
    "bridge/bridge-nf-call-ip6tables": 0,
    # A router that hairpins sends packets back where they came from, and means it.
    "ipv4/conf/all/send_redirects": 0,
    "ipv4/conf/default/send_redirects": 0,
    # Every refusal is answered, not one a second: tests count on it.
    "ipv4/icmp_ratelimit": 0,
    # Duplicate address detection would delay and its traffic be counted.
    "ipv6/conf/default/disable_ipv6": 1,
}


def make(namespace: str, commands: Iterable[str], rules: str = "") -> None:
    """
    Make a namespace with the settings of the lab.

    @param commands: For C{ip}, run in the namespace.
    @param rules: For C{nft}, likewise.
    """
    ip([f"netns add {namespace}"])
    # The settings come before the interfaces, which inherit them.
    script = "".join(
        f"[ ! -e /proc/sys/net/{name} ] || echo {value} >/proc/sys/net/{name} || exit\n"
        for name, value in _SETTINGS.items()
    )
    lines = "\n".join(["link set lo up", *commands])
    script += f"ip -batch - <<'COMMANDS' || exit\n{lines}\nCOMMANDS\n"
    if rules:
        script += f"nft -f - <<'RULES'\n{rules}RULES\n"
    _tool([*inside(namespace), "sh"], script)


def prefix() -> str:
    """
    The beginning of the names of a new lab's namespaces.
    """
    name = f"natlab-{os.getpid()}-{next(_labs)}-"
    _living.add(name)
    return name


def _existing(start: str) -> list[str]:
    """
    The names of all namespaces that begin so.
    """
    if not _RUN.is_dir():
        return []
    return sorted(each for each in os.listdir(_RUN) if each.startswith(start))


def _inhabitants(namespaces: Iterable[str]) -> list[int]:
    """
    The processes that are in one of the namespaces, in one pass over C{/proc}.
    """
    inodes = set()
    for name in namespaces:
        with suppress(FileNotFoundError):  # another sweeper was quicker
            inodes.add(os.stat(_RUN / name).st_ino)
    found = []
    for each in os.listdir("/proc"):
        if each.isdigit():
            with suppress(OSError):  # it just ended
                if os.stat(f"/proc/{each}/ns/net").st_ino in inodes:
                    found.append(int(each))
    return found


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    """
    Send a signal to those which still live.
    """
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def remove(start: str) -> None:
    """
    End every process in the namespaces that begin so, and the namespaces.

    Whatever runs there was started through the lab, or by such a process: it
    may have left its process group, but not its namespace.
    """
    names = _existing(start)
    if not names:
        _living.discard(start)
        return
    patience = time.monotonic() + 2.0  # a killed process needs milliseconds
    while (pids := _inhabitants(names)) and time.monotonic() < patience:
        _signal(pids, signal.SIGKILL)
        time.sleep(0.005)
    # Forced: one that is gone already must not keep the others.
    subprocess.run(
        ["ip", "-force", "-batch", "-"],
        input="".join(f"netns del {name}\n" for name in names),
        text=True,
        capture_output=True,
    )
    _living.discard(start)


def sweep() -> None:
    """
    Remove the labs of processes that no longer exist, and what an earlier
    process of our own number left.
    """
    stale = set()
    for name in _existing("natlab-"):
        found = _NAME.match(name)
        if found is None or found[0] in _living:
            continue
        owner = int(found[1])
        if owner == os.getpid() or not Path(f"/proc/{owner}").exists():
            stale.add(found[0])
    for start in stale:
        remove(start)


class Machine:
    """
    A namespace in which programs can be run: a host or a router.

    @ivar name: What the lab calls it.
    @ivar namespace: The name of its namespace, as C{ip netns} shows it.
    """

    def __init__(self, name: str, namespace: str) -> None:
        self.name = name
        self.namespace = namespace
        self._processes: list[subprocess.Popen[Any]] = []

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        check: bool = True,
        input: str | None = None,
        timeout: float | None = None,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """
        Run a program here to its end; its output is captured as text.

        @param check: Whether a non-zero exit status is an error.
        @raise subprocess.CalledProcessError: If C{check}; its notes carry what
            the program wrote to standard error.
        @raise subprocess.TimeoutExpired: The program and its children are dead.
        """
        process: subprocess.Popen[str] = self.popen(
            argv,
            stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
        )
        try:
            stdout, stderr = process.communicate(input, timeout)
        finally:
            self._end(process)
        if check and process.returncode != 0:
            error = subprocess.CalledProcessError(process.returncode, process.args, stdout, stderr)
            error.add_note(stderr)
            raise error
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def popen(self, argv: Sequence[str | Path], **options: Any) -> subprocess.Popen[Any]:
        """
        Start a program here, in a process group of its own that ends with the
        lab at the latest.

        @param options: As for L{subprocess.Popen}.
        """
        process = subprocess.Popen(
            [*inside(self.namespace), *map(str, argv)], start_new_session=True, **options
        )
        self._processes.append(process)
        return process

    def _end(self, process: subprocess.Popen[Any]) -> None:
        """
        Kill what is left of a process and its group, and collect it.
        """
        # A number may belong to somebody else once its process is collected.
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                # What was written and not read by a dead program is lost.
                with suppress(BrokenPipeError):
                    stream.close()
        self._processes.remove(process)

    def endAll(self) -> None:
        """
        Kill everything that was started here and still runs.
        """
        for process in list(self._processes):
            self._end(process)
