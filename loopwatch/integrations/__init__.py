"""loopwatch integrated into the parts of a service: its logging, its web framework."""
