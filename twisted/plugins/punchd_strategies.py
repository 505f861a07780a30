"""
The strategies that come with punchd. A maker is light: the code is loaded when it is used.
"""

from punchd.plugin import StrategyMaker

lan = StrategyMaker("lan", "punchd.strategies.lan.Lan")
ipv6 = StrategyMaker("ipv6", "punchd.strategies.ipv6.IPv6")
direct = StrategyMaker("direct", "punchd.strategies.direct.Direct")
mapped = StrategyMaker("mapped", "punchd.strategies.mapped.Mapped")
simultaneous = StrategyMaker("simultaneous", "punchd.strategies.simultaneous.Simultaneous")
predicted = StrategyMaker("predicted", "punchd.strategies.predicted.Predicted")
birthday = StrategyMaker("birthday", "punchd.strategies.birthday.Birthday")
sequential = StrategyMaker("sequential", "punchd.strategies.sequential.Sequential")
