"""Finds the live tasks that will not finish."""
