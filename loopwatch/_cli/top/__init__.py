"""``loopwatch top``: a live view of one process, in a terminal.

``source`` fetches documents, ``session`` has them and the keys change what is shown, ``view`` draws it.
"""
