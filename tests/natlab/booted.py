"""
A real systemd, as process 1 of namespaces of its own.

It sees this machine's files, on which it may write as it likes: that goes to memory, and is gone
with it. It has a network of its own, with nothing but a loopback interface, and a place of its own
in the hierarchy of control groups. Where its units expect punchd, in C{/opt/punchd}, is the one
that is tested.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from types import TracebackType

import punchd

#: Seconds within which it must be up, or a unit must be as a test expects it.
PATIENCE = 30.0

_ROOT = Path(punchd.__file__).parents[1]
_UNITS = _ROOT / "punchd/units"

# Where the unified hierarchy of control groups is mounted, or whether at all, differs from machine
# to machine; this sees it in a place of its own, and begins or ends a group there.
_GROUPS = """\
set -e
mount --make-rprivate /
mount -t cgroup2 cgroup2 "$1"
"""
_BEGIN_GROUP = f"""\
{_GROUPS}
mkdir "$1/$2"
echo $$ > "$1/$2/cgroup.procs"
shift 2
exec "$@"
"""
_END_GROUP = f"""\
{_GROUPS}
find "$1/$2" -depth -type d -exec rmdir {{}} +
"""

# What becomes process 1 first makes the world that it is to see. Journal and state are in memory.
_WORLD = """\
set -e
place=$1
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$place"
mkdir "$place/upper" "$place/work" "$place/root"
mount -t overlay -o "lowerdir=/,upperdir=$place/upper,workdir=$place/work" overlay "$place/root"
cd "$place/root"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
mount -t cgroup2 cgroup2 sys/fs/cgroup
for each in run dev var/log var/lib tmp; do mount -t tmpfs -o mode=755 tmpfs $each; done
chmod 1777 tmp
for each in null zero full random urandom tty; do
    touch dev/$each
    mount --bind /dev/$each dev/$each
done
mkdir dev/pts dev/shm var/lib/systemd
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mkdir -p opt
mount -t tmpfs -o mode=755 tmpfs opt
mkdir -p opt/punchd/bin opt/punchd/code opt/punchd/packages opt/punchd/python
mount --bind "$2" opt/punchd/code
mount --bind "$3" opt/punchd/packages
mount --bind "$4" opt/punchd/python
cp "$place.bin"/* opt/punchd/bin/
rm -rf etc/systemd/system/*.wants etc/punchd
mkdir etc/punchd
cp "$2"/punchd/units/* etc/systemd/system/
ip link set lo up
mkdir old
pivot_root . old
umount --lazy old
exec env -i container=punchd-test /lib/systemd/systemd --system --unit=basic.target \\
    --show-status=no --log-target=journal
"""

# Of the one that is tested; it, and Python, may lie where the units do not let anybody look.
_PROGRAM = """\
#!/bin/sh
export LD_LIBRARY_PATH=/opt/punchd/python/lib
export PYTHONPATH=/opt/punchd/code:/opt/punchd/packages
exec /opt/punchd/python/bin/python{version} -c '
from {module} import {function} as run
exit(run())
' "$@"
"""
_PROGRAMS = {"twistd": ("twisted.scripts.twistd", "run"), "punchd": ("punchd.cli.main", "main")}


class Booted:
    """
    Whoever makes it closes it, best by C{with}.
    """

    def __init__(self) -> None:
        self._place = Path(tempfile.mkdtemp(prefix="punchd-systemd-"))
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        # Beside it, as something is mounted there.
        self._programs = self._place.with_name(f"{self._place.name}.bin")
        self._programs.mkdir(mode=0o755)
        for name, (module, function) in _PROGRAMS.items():
            program = self._programs / name
            program.write_text(_PROGRAM.format(version=version, module=module, function=function))
            program.chmod(0o755)
        self._unshare = subprocess.Popen(
            [
                *self._grouped(_BEGIN_GROUP),
                *("unshare", "--mount", "--pid", "--fork", "--uts", "--ipc", "--cgroup", "--net"),
                *("--kill-child=KILL", "bash", "-c", _WORLD, "systemd", self._place, _ROOT),
                *(sysconfig.get_path("purelib"), sys.base_prefix),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            self.waitFor(self._isUp, "up")
        except BaseException:
            self.close()
            raise

    def _grouped(self, script: str) -> list[str]:
        """
        What runs a script that sees the control groups; its second argument is the name of ours.
        """
        place = str(self._place)
        return ["unshare", "--mount", "sh", "-c", script, "sh", place, self._place.name]

    def __enter__(self) -> Booted:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _isUp(self) -> bool:
        said = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        # Something of this machine's may not work there.
        return said in ("running", "degraded")

    @property
    def _pid(self) -> int:
        children = Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children")
        return int(children.read_text().split()[0])

    def command(self, *argv: object) -> list[str]:
        """
        What runs a command there.
        """
        inside = ["nsenter", f"--target={self._pid}", "--all", "env", "-i", "-C", "/"]
        path = "PATH=/opt/punchd/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return [*inside, path, *map(str, argv)]

    def run(
        self, *argv: object, check: bool = True, timeout: float = PATIENCE
    ) -> subprocess.CompletedProcess[str]:
        """
        Run a command there.
        """
        try:
            command = self.command(*argv)
        except (OSError, IndexError):
            return subprocess.CompletedProcess([], 1, "", "there is no process yet")
        return subprocess.run(command, check=check, timeout=timeout, capture_output=True, text=True)

    @property
    def root(self) -> Path:
        """
        Its files, as they are seen from here.
        """
        return Path(f"/proc/{self._pid}/root")

    def write(self, path: str, content: str) -> None:
        """
        Write a file there.
        """
        file = self.root / path.removeprefix("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, "utf-8")

    def read(self, path: str) -> str:
        """
        What is in a file there.
        """
        return (self.root / path.removeprefix("/")).read_text("utf-8")

    def systemctl(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = self.run("systemctl", *arguments, check=False)
        if check and done.returncode != 0:
            raise AssertionError(f"systemctl {arguments}: {done.stderr}\n{self.journal()}")
        return done

    def show(self, unit: str, *names: str) -> dict[str, str]:
        """
        Properties of a unit.
        """
        done = self.systemctl("show", unit, *(f"--property={name}" for name in names))
        return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)

    def journal(self, *arguments: str) -> str:
        return self.run("journalctl", "--no-pager", "--quiet", "--output=cat", *arguments).stdout

    def waitFor(self, isSo: object, what: str) -> None:
        """
        Wait until a function says that something is so.
        """
        assert callable(isSo)
        until = time.monotonic() + PATIENCE
        while not isSo():
            if self._unshare.poll() is not None:
                assert self._unshare.stdout is not None
                raise AssertionError(f"systemd has ended: {self._unshare.stdout.read()!r}")
            if time.monotonic() > until:
                raise AssertionError(f"not {what} within {PATIENCE:.0f} s")
            time.sleep(0.05)

    def close(self) -> None:
        """
        End it, and everything that runs there.
        """
        self._unshare.send_signal(signal.SIGKILL)
        self._unshare.wait()
        assert self._unshare.stdout is not None
        self._unshare.stdout.close()
        # Its processes go with the namespace; their groups, when they are gone.
        for _ in range(200):
            if subprocess.run(self._grouped(_END_GROUP), capture_output=True).returncode == 0:
                break
            time.sleep(0.02)
        for each in (self._programs, self._place):
            shutil.rmtree(each, ignore_errors=True)
