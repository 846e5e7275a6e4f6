"""Talking to the kernel: libbpf by ctypes, objects, maps as numpy tables, rings, iterators."""
