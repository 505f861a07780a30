"""
punchd: direct TCP connections between machines behind NATs.

This package's top imports nothing, so that the command-line client stays quick.
"""

__version__ = "0.1.0.dev0"
