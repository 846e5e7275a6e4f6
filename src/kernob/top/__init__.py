"""`kernob top`: who uses the network, live in the terminal or once for scripts."""

from kernob.top.live import run, run_requests
from kernob.top.remote import traffic_from_agent
from kernob.top.request_snapshot import once as once_requests
from kernob.top.snapshot import once

__all__ = ["once", "once_requests", "run", "run_requests", "traffic_from_agent"]
