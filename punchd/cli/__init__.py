"""
The command C{punchd}. Only what a command needs is imported: most are thin clients of a running
peer.
"""
