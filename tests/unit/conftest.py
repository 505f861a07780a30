"""
Settings of the unit tests.
"""

from hypothesis import settings

# No deadline: a loaded machine is no error. Examples are fewer than Hypothesis' 100, since the suite is
# run at every change.
settings.register_profile("unit", deadline=None, max_examples=60)
settings.load_profile("unit")
