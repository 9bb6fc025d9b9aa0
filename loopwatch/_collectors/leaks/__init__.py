"""Finds the tasks that live and will not finish."""
