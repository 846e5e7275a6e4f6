"""`kernob top`: who uses the network, live in the terminal or once for scripts."""

from kernob.top.agent import traffic_from_agent
from kernob.top.once import once
from kernob.top.run import run

__all__ = ["once", "run", "traffic_from_agent"]
