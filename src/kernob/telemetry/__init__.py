"""What leaves Kernob: the model, OTLP, Prometheus."""
