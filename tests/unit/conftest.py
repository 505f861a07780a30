"""
Settings of the unit tests.
"""

from hypothesis import settings

# No deadline: a loaded machine is no error. Examples are fewer than Hypothesis' 100, since these
# tests run at every change.
settings.register_profile("unit", deadline=None, max_examples=20)
settings.load_profile("unit")
