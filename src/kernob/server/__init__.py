"""The server: OTLP in, by HTTP and gRPC, and the API; it owns the store."""
