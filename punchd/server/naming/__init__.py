"""
The names of peers in the DNS: who has one, what is answered, and how questions come in.
"""
