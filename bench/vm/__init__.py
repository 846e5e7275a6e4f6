"""Other kernels by emulation: what loads there, and overhead counted in instructions."""
