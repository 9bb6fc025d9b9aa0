"""What the agent sends by OTLP, as a real OpenTelemetry Collector receives it."""
