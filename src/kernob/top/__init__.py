"""`kernob top`: who uses the network, live in the terminal or once for scripts."""

from kernob.top.live import run
from kernob.top.remote import traffic_from_agent
from kernob.top.snapshot import once

__all__ = ["once", "run", "traffic_from_agent"]
