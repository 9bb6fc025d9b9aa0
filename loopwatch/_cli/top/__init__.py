"""``loopwatch top``: a live view of one process, in a terminal.

``fetching`` fetches documents, ``session`` updates what is shown from them and the keys, ``view`` draws it.
"""
