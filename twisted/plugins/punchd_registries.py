"""
The registries that come with punchd. A maker is light: the code is loaded when it is used.
"""

from punchd.plugin import RegistryMaker

memory = RegistryMaker("memory", "punchd.server.registry.memory.fromURI")
sqlite = RegistryMaker("sqlite", "punchd.server.registry.sqlite.fromURI")
