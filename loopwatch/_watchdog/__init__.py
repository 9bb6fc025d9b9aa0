"""Runs in the watchdog thread: the one background thread that looks, and what it makes of what it sees."""
