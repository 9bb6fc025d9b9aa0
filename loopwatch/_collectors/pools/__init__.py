"""Pools and executors: who holds, who waits, and for how long.

One module for each library, its **reader**, holds all that is known of that library: which method to hang on
to, and what to read. What happens at an acquire runs in the program's thread, like a probe, and writes to the
cells of ``_store/pools`` alone; all else is read when somebody asks.
"""
