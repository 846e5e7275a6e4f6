"""Kernob: zero-instrumentation observability for Linux, counted in the kernel with eBPF."""

from importlib.metadata import version

__version__ = version("kernob")
