"""
The endpoint strings that begin with C{punchd:}. The parser is light: the code is loaded when it is
used.
"""

from punchd.plugin import EndpointParser

punchd = EndpointParser("punchd", "punchd.parsers.parseClient", "punchd.parsers.parseServer")
