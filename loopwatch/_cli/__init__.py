"""The ``loopwatch`` command, one module for each subcommand; ``commands`` gathers them.

Nothing here imports the agent: ``__main__`` hands its calls over, as the object of click's context.
"""
