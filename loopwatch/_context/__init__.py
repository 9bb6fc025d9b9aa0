"""Whose work it is: the context variables the program asked to see, and the OTel trace, of any task."""
