"""
What C{twistd} makes of the command line.
"""
