"""Exports what loopwatch knows by OpenTelemetry: metrics, spans and log records. Imported only if wanted."""
