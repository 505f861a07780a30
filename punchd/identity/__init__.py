"""
Who is who: keys, certificates, pins, and the TLS that proves them.
"""
