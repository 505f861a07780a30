"""
One line for each strategy in this package. A maker is light: the code is loaded when it is used.
"""

from punchd.plugin import StrategyMaker

doorstep = StrategyMaker("doorstep", "punchd_strategy_example.Doorstep")
