"""
NATs: what they do, and what they do for us if they are asked.
"""
