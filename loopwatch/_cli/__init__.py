"""The ``loopwatch`` command, one module for each subcommand; ``commands`` gathers them.

Nothing here imports the agent: ``__main__`` passes its functions in, as the object of click's context.
"""
