"""The public test kit: a clock that a test turns, and (``plugin``) what fails tests that stall or leak."""

from ._fake_clock import FakeClock

__all__ = ["FakeClock"]
