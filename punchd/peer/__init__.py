"""
The peer: its connections to servers, the introductions it takes part in, and what it exposes and
forwards.
"""
