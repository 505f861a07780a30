"""
What runs over a path, and what outlives it: the connection's proof, sessions, and their streams.
"""
