"""Work items of executors: when and by whom each was submitted is stored on the item itself.

So neither ``submit`` nor what is submitted is wrapped. An item does not name its executor.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from loopwatch._store.pools import Acquire

from .binding import Binding


def submits(binding: Binding, item: type) -> None:
    """Wrap the ``__init__`` of the class of items: a wait begins there."""
    binding.wrap(item, "__init__", functools.partial(_create, binding))


def asked_of(item: Any) -> Acquire | None:
    """Return the acquire of an item; None if it was submitted before us, or the acquire was taken."""
    found = getattr(item, "_loopwatch_asked", None)
    return found if type(found) is tuple else None


def take(item: Any) -> Acquire | None:
    """Return the same, but only to the first caller: two threads may ask."""
    asked = vars(item).pop("_loopwatch_asked", None)
    return asked if type(asked) is tuple else None


def _create(binding: Binding, original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def create(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        try:
            self._loopwatch_asked = binding.asked()
        except Exception as error:  # noqa: BLE001 - the item takes no attributes; the work goes on
            binding.broke("waits", error)

    return create
