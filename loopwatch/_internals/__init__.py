"""Trespasses: every use of a private name of CPython, uvloop or another library, one file each.

Each looks its names up where they are used, says which versions it was checked on, and yields None where
the name is absent, so that what depends on it is absent too, never wrong.
"""
