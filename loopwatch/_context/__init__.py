"""Whose work a task does: the context variables the program asked to see, and the OTel trace."""
