"""Brings the agent into a program that ``loopwatch run`` started, and into its children.

Python imports ``sitecustomize`` at start-up from the first directory on ``sys.path`` that has one;
``loopwatch run`` puts this directory first on ``PYTHONPATH``. Children inherit the variable whatever their
interpreter is, so this file keeps to what every Python can read, 2.7 included.
"""

import os
import sys

if sys.version_info >= (3, 11):  # noqa: UP036  (see above)
    try:
        import loopwatch_bootstrap  # type: ignore[import-not-found]  # found beside this file at run time

        loopwatch_bootstrap.prepare()
    except Exception as error:  # noqa: BLE001  (whatever is wrong with us, the program must run)
        if sys.stderr:
            sys.stderr.write("loopwatch run: the program runs unwatched: %r\n" % error)  # noqa: UP031

# Restore the program's path, and import the sitecustomize it would have had without us. If there is none, the
# ImportError is the one that Python expects from this import and ignores.
_here = os.path.dirname(__file__)
sys.path[:] = [entry for entry in sys.path if entry != _here]
del sys.modules["sitecustomize"]
__import__("sitecustomize")
