"""``anyio.CapacityLimiter`` on asyncio: the program's own, and the default one of each loop, of 40 threads.

Starlette and FastAPI run all synchronous code under the default one. anyio 3.7 to 4.16.

The trespass: the class of the limiters, and where anyio keeps the default one. Callers of ``acquire_nowait``
are seen to hold a token, but not counted as having acquired one.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterable
from types import CodeType, ModuleType
from typing import Any, ClassVar

from loopwatch._internals.interpreter import getframe
from loopwatch._internals.patches import hide_caller
from loopwatch._store.pools import Family

from .binding import Binding
from .protocol import PoolReader, Sample, snap

_DEFAULT = "_default_thread_limiter"


class AnyioReader(PoolReader):
    """Reads limiters. What is held is a token, identified by its borrower."""

    kind = "anyio"
    family: ClassVar[Family] = "other"
    modules = ("anyio._backends._asyncio",)

    def __init__(self) -> None:
        self._makes_default: CodeType | None = None

    def bind(self, module: ModuleType, binding: Binding) -> None:
        """See PoolReader."""
        backend = getattr(module, "AsyncIOBackend", module)
        makes_default = inspect.unwrap(getattr(backend, "current_default_thread_limiter", len))
        self._makes_default = getattr(makes_default, "__code__", None)
        with binding.feature("gauges"):
            limiter = binding.cls("CapacityLimiter")
            binding.needs(limiter, "total_tokens")
            binding.creates(limiter)
            for one in _default_limiters():
                binding.found(one)
        with binding.feature("waits"):
            acquires = functools.partial(_acquires, binding)
            binding.wrap(binding.cls("CapacityLimiter"), "acquire_on_behalf_of", acquires, ("borrower",))
        with binding.feature("holders"):
            binding.cls("CapacityLimiter")

    def label(self, pool: Any) -> str | None:
        """Return ``default`` for a limiter that is, or is about to become, the default one of a loop."""
        frame = None if self._makes_default is None else getframe(1)
        while frame is not None and frame.f_code is not self._makes_default:
            frame = frame.f_back
        return "default" if frame is not None or any(one is pool for one in _default_limiters()) else None

    def read(self, anchor: Any) -> Sample:
        """See PoolReader."""
        total, used = anchor.total_tokens, len(anchor._borrowers)
        limit = None if total == float("inf") else int(total)
        return Sample(
            max=limit,
            used=used,
            idle=None if limit is None else limit - used,
            pending=len(anchor._wait_queue),
        )

    def holders(self, anchor: Any) -> Iterable[object]:
        """See PoolReader."""
        return snap(anchor._borrowers)


def _acquires(binding: Binding, original: Callable[..., Any]) -> Callable[..., Any]:
    """Return the wrapper of ``acquire_on_behalf_of``, which does not return the borrower."""

    @functools.wraps(original)
    async def acquire_on_behalf_of(self: Any, borrower: object) -> None:
        asked = binding.asks(self)
        if asked is None:
            await original(self, borrower)
            return
        try:
            await original(self, borrower)
        except BaseException as error:
            binding.failed(asked, self, error)
            hide_caller(error)
            raise
        binding.got(asked, self, borrower)

    return acquire_on_behalf_of


def _is_open(loop: Any) -> bool:
    """Whether a loop is an asyncio loop that is not closed."""
    is_closed = getattr(loop, "is_closed", None)
    return is_closed is not None and not is_closed()


def _default_limiters() -> list[Any]:
    """Return the default limiters of all open loops: anyio 3 and its threads keep closed loops alive."""
    variables = getattr(sys.modules.get("anyio.lowlevel"), "_run_vars", {})
    found = (item for loop, own in snap(variables.items()) if _is_open(loop) for item in snap(own.items()))
    return [value for variable, value in found if getattr(variable, "_name", variable) == _DEFAULT]
