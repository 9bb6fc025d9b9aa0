"""Keeps what probes and watchdog write and the reader reads. No part here looks, decides or formats."""
