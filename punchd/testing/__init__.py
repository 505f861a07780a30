"""
The test kit, for punchd's own tests and for authors of strategies.
"""
