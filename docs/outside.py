"""
Links from the API reference to other projects' references, without asking the network for them.

pydoctor warns of every L{name} that it cannot link, and here a warning ends the build. This writes
an inventory of those names outside punchd that its sources import or link; each must exist in the
installed release, so a misspelt one still ends the build.
"""

import ast
import builtins
import inspect
import re
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

from twisted.python.reflect import namedAny

_LINK = re.compile(r"L\{(?:[^{}<]*<)?([A-Za-z_][\w.]*)>?\}")


def _names(source: str) -> Iterator[str]:
    yield from _LINK.findall(source)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f"{node.module}.{each.name}" for each in node.names)
        elif isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.Attribute):
            yield ast.unparse(node)


def _address(name: str, found: object) -> str | None:
    """
    Where a thing of that name is described; L{None} if nobody is known to.
    """
    package = name.partition(".")[0]
    if package == "twisted":
        if inspect.ismodule(found) or inspect.isclass(found):
            return f"https://docs.twisted.org/en/stable/api/{name}.html"
        home, _, last = name.rpartition(".")
        return f"https://docs.twisted.org/en/stable/api/{home}.html#{last}"
    if package == "zope":
        return "https://zopeinterface.readthedocs.io/en/latest/api/index.html"
    if package in sys.stdlib_module_names:
        if inspect.ismodule(found):
            return f"https://docs.python.org/3/library/{name}.html#module-{name}"
        home = name.rpartition(".")[0]
        return f"https://docs.python.org/3/library/{home}.html#{name}"
    return {
        "attr": "https://www.attrs.org/en/stable/api-attr.html",
        "attrs": "https://www.attrs.org/en/stable/api.html",
        "automat": "https://automat.readthedocs.io/en/latest/",
        "cryptography": "https://cryptography.io/en/latest/",
        "OpenSSL": "https://www.pyopenssl.org/en/latest/api.html",
        "rich": "https://rich.readthedocs.io/en/stable/reference.html",
        "service_identity": "https://service-identity.readthedocs.io/en/stable/api.html",
    }.get(package)


def writeInventory(package: Path, inventory: Path) -> None:
    """
    Write C{inventory}, in the format of Sphinx, for all the sources of C{package}.
    """
    names = {name for each in package.rglob("*.py") for name in _names(each.read_text())}
    lines = []
    for name in sorted(names):
        if not re.fullmatch(r"[A-Za-z_]\w*(\.\w+)+|[A-Za-z_]\w*", name):
            continue
        if name.partition(".")[0] == package.name:
            continue
        try:
            found = namedAny(name)
        except Exception:
            continue
        address = _address(name, found)
        if address is not None:
            # The address is joined to a base, of which "https:/" is the common part.
            lines.append(f"{name} py:obj 1 {address.removeprefix('https://')} -")
    for name, found in sorted(vars(builtins).items()):
        if not name.startswith("_"):
            page = "stdtypes" if inspect.isclass(found) else "functions"
            page = "exceptions" if name[0].isupper() else page
            lines.append(f"{name} py:obj 1 docs.python.org/3/library/{page}.html#{name} -")
    heading = "# Sphinx inventory version 2\n# Project: outside\n# Version:\n# zlib\n"
    inventory.parent.mkdir(parents=True, exist_ok=True)
    inventory.write_bytes(heading.encode() + zlib.compress("\n".join(lines).encode() + b"\n"))
