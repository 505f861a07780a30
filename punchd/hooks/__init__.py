"""
Telling programs that know nothing of punchd: a command that is run when facts change.
"""
