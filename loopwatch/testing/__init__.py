"""The public test kit: a clock moved by hand, and a pytest ``plugin`` that fails tests that stall or leak."""

from ._fake_clock import FakeClock

__all__ = ["FakeClock"]
