"""
Doorstep keeps to what any strategy must.
"""

from punchd.testing.contract import StrategyContract
from punchd_strategy_example import Doorstep


class TestDoorstep(StrategyContract):
    def makeStrategy(self):
        return Doorstep()
