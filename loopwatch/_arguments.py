"""Arguments of public functions: the default that means "not given", and spans of time."""

from __future__ import annotations

from enum import Enum
from typing import Final

from ._errors import ConfigurationError


class Unset(Enum):
    """Type of ``UNSET``, the default of arguments for which None has a meaning of its own."""

    UNSET = "not given"


UNSET: Final = Unset.UNSET

LONGEST_DRAIN = 86400.0
"""The most seconds a drain may be given."""


def refusal(name: str, value: object, why: str, instead: str) -> ConfigurationError:
    """Build the error for ``name``: the value it got, why that is wrong, what to write instead."""
    return ConfigurationError(f"{name}={value!r}: {why}. {instead}")


def seconds(name: str, value: object, low: float, high: float) -> float:
    """Return ``value`` if it is a number of seconds within the range. Raises ConfigurationError if not."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refusal(
            name, value, f"got {type(value).__name__}, not a number", f"Give seconds, {low:g} to {high:g}."
        )
    if not low <= value <= high:  # written so that NaN fails, and an integer too large for a float
        raise refusal(name, value, f"outside {low:g} to {high:g} seconds", "Give a value within that range.")
    return float(value)
