"""
The folder in which a peer or a server keeps what must outlive it.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from tempfile import NamedTemporaryFile

from attrs import frozen

from punchd.errors import ConfigurationError


def defaultState(program: str) -> str:
    """
    Where C{program} keeps its state if nothing else is said (XDG Base Directory Specification).
    """
    # Who has no home may say something else; it is no mistake before.
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return os.path.expanduser(f"{base}/{program}")


@frozen
class StateFolder:
    """
    A folder that only its owner can look into. Files are written beside their place, flushed, and
    renamed onto it: a full disk or a killed process leaves the old file whole.
    """

    path: Path

    @classmethod
    def at(cls, path: str) -> StateFolder:
        """
        The folder at C{path}, made if it is not there.

        @raise ConfigurationError: when it cannot be made or written to.
        """
        try:
            folder = Path(path).expanduser()
        except RuntimeError:
            raise ConfigurationError(
                f"no state folder {path}: whoever runs this has no home; choose one with --state"
            ) from None
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"cannot make the state folder {folder}: {error.strerror}; "
                "choose another one with --state"
            ) from None
        if not os.access(folder, os.W_OK | os.X_OK):
            raise ConfigurationError(
                f"cannot write to the state folder {folder}{_whose(folder)}; choose another one "
                "with --state"
            )
        return cls(folder)

    def file(self, name: str) -> Path:
        """
        Where the file C{name} is.
        """
        return self.path / name

    def read(self, name: str) -> bytes | None:
        """
        What is in the file C{name}; C{None} if there is none.

        @raise ConfigurationError: when it is there but cannot be read.
        """
        try:
            return self.file(name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            path = self.file(name)
            whose = _whose(path) if isinstance(error, PermissionError) else ""
            raise ConfigurationError(f"cannot read {path}: {error.strerror}{whose}") from None

    def write(self, name: str, content: bytes) -> None:
        """
        Put C{content} into the file C{name}, readable by the owner alone, all of it or nothing.
        What root writes belongs to the folder's owner: a service may run as somebody else.

        @raise ConfigurationError: when it cannot be written.
        """
        temporary = None
        try:
            # NamedTemporaryFile makes its files with mode 0600.
            with NamedTemporaryFile(dir=self.path, prefix=f".{name}.", delete=False) as file:
                temporary = file.name
                file.write(content)
                file.flush()
                if os.geteuid() == 0:
                    owner = self.path.stat()
                    os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
                os.fsync(file.fileno())
            os.replace(temporary, self.file(name))
        except OSError as error:
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)
            raise ConfigurationError(f"cannot write {self.file(name)}: {error.strerror}") from None


def _whose(path: Path) -> str:
    """
    Whose it is, if it is somebody else's.
    """
    try:
        owner = path.stat().st_uid
    except OSError:
        return ""
    own = os.geteuid()
    return "" if owner == own else f" (it belongs to {_user(owner)}, and this is {_user(own)})"


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"
