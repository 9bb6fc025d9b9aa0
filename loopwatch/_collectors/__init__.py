"""Runs when somebody reads: collectors are asked by whoever wants to know, off the loop's thread."""
