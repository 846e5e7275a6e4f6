"""The server: OTLP in, by HTTP and gRPC, and the API; it owns the store."""

import os

# Else gRPC's core writes what clients do wrong to standard error, in a format of its own. It looks
# when it is first imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
