"""
Ways of getting a direct connection, one a file, and the plan that races them.
"""
