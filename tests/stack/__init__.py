"""What the agent sends, as a real OpenTelemetry Collector and a real Prometheus receive it."""
