"""
How the manual is built: `tox -e docs`.
"""

import sys
import tempfile
from pathlib import Path

_here = Path(__file__).parent
_root = _here.parent
sys.path.insert(0, str(_here))

from outside import writeInventory  # noqa: E402

import punchd  # noqa: E402

project = "punchd"
author = "The punchd authors"
version = release = punchd.__version__

extensions = ["sphinx.ext.intersphinx", "pydoctor.sphinx_ext.build_apidocs", "fromcode"]
exclude_patterns = ["_build", "newsfragments", "examples"]
# A name in `single` back-quotes must be one that Sphinx, or pydoctor's inventory, knows.
default_role = "any"
nitpicky = True
# Nothing is fetched: the inventory of our own API is local, others are linked by address.
intersphinx_mapping: dict[str, tuple[str, str | None]] = {}
intersphinx_disabled_reftypes = ["std:*"]

html_theme = "furo"
html_title = "punchd"
html_show_copyright = False
html_show_sphinx = False

_outside = Path(tempfile.mkdtemp(prefix="punchd-docs-")) / "objects.inv"
writeInventory(_root / "punchd", _outside)

pydoctor_url_path = "/api/"
# What does not depend on where the result goes stands in setup.cfg.
pydoctor_args = [
    f"--config={_root / 'setup.cfg'}",
    f"--project-version={version}",
    f"--project-base-dir={_root}",
    f"--intersphinx-file={_outside}::https:/",
    "--html-output={outdir}/api/",
    str(_root / "punchd"),
]
