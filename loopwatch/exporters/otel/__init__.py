"""What loopwatch knows, by OpenTelemetry: metrics, spans and log records. Imported where that is wanted."""
