"""
The nouns of punchd as frozen values: they know themselves and nothing of sockets or time.
"""
