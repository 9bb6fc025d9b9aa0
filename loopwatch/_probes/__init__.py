"""Runs in the loop thread: probes push into the store. They never lock, log, format or do I/O."""
