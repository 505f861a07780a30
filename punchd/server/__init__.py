"""
The public server: it introduces peers to each other, and shows them what their NATs make of them.
"""
