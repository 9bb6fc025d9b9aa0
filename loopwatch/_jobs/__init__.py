"""Jobs that are held until they end, and the drain that waits for them: the code that changes behaviour."""
