"""The console: commands that answer in text, and the ways to reach them in a live process.

``commands`` is what all of them share. It is given a source of records, and changes nothing in the program.
"""
