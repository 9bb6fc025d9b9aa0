"""Pools and executors: who holds, who waits, and for how long.

Each library has one module, its **reader**, which holds all that we know of that library: which methods to
wrap, and what to read. The code that runs at an acquire runs in the program's thread, like a probe, and
writes only to the cells of ``_store/pools``; everything else is read on demand.
"""
