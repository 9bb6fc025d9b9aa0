"""Exporters: they receive a source of snapshots and show it; they know nothing of how it came about."""
