"""One module for each thing observed: its tables in, points out."""
