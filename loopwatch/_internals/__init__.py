"""Trespasses: every use of a private name of CPython, uvloop or another library, one file each.

Each file looks up its names where they are used, says which versions it was checked on, and returns None if
a name is absent, so that what depends on it is absent too, never wrong.
"""
