"""
The strategies that come with punchd. A maker is light: the code is loaded when it is used.
"""

from punchd.plugin import StrategyMaker

lan = StrategyMaker("lan", "punchd.strategies.lan.Lan")
simultaneous = StrategyMaker("simultaneous", "punchd.strategies.simultaneous.Simultaneous")
sequential = StrategyMaker("sequential", "punchd.strategies.sequential.Sequential")
