"""What was submitted to an executor: when and by whom is written on the item itself.

So neither ``submit`` nor what is submitted is wrapped. An item does not say whose it is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from loopwatch._store.pools import Acquire

from .binding import Binding


def submits(binding: Binding, item: type) -> None:
    """Wrap the ``__init__`` of the class of items: that is the asking."""
    binding.wrap(item, "__init__", functools.partial(_create, binding))


def asked_of(item: Any) -> Acquire | None:
    """Return when and by whom an item was submitted; None if that was before us, or is no more to be told."""
    found = getattr(item, "_loopwatch_asked", None)
    return found if type(found) is tuple else None


def take(item: Any) -> Acquire | None:
    """Return the same, to the first who asks: two threads may."""
    asked = vars(item).pop("_loopwatch_asked", None)
    return asked if type(asked) is tuple else None


def _create(binding: Binding, original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def create(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        try:
            self._loopwatch_asked = binding.asked()
        except Exception as error:  # noqa: BLE001 - an item that takes no attributes; the work goes on
            binding.broke("waits", error)

    return create
