"""loopwatch within what a service is made of: its logging, its web framework."""
