"""Kernob: zero-instrumentation observability for Linux, counted in the kernel with eBPF."""

import os
from importlib.metadata import version

# numpy's OpenBLAS starts a thread for each CPU when it is imported. Nothing here multiplies
# matrices; the threads would cost memory, and keep privileges that the agent gives up.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

__version__ = version("kernob")
