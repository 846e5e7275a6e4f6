"""What each protocol's rows mean: one module for each, the twin of a header in bpf/protocols.

The kernel knows an operation as a text without literals, and a status as a number. A module says
which attributes of OpenTelemetry's semantic conventions these are, and in which metric they count.
"""
