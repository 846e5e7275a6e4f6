"""What Kernob costs and what it sees, measured on the running kernel: `python -m bench`."""
