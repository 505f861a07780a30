"""
Tells punchd of the strategy C{doorstep}. Light: C{doorstep} itself is imported when it is used.
"""

from punchd.plugin import StrategyMaker

doorstep = StrategyMaker("doorstep", "doorstep.Doorstep")
