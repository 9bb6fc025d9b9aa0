"""The console: commands that answer in text, and the ways to reach them in a live process.

All of them share ``commands``, which is given a source of records and changes nothing in the program.
"""
