"""
What runs over a path: authentication of a punched connection, election, and the stream.
"""
