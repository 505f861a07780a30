"""
Where the server keeps what must outlive it: which key owns which name.

Names are compared without regard to case, as in DNS, so that nobody can be C{Bob} beside C{bob}.
"""
