"""Whether the program has set a global provider of OpenTelemetry: the API's private variables.

Needed because its public getters return a proxy if none is set, and load and set one if an environment
variable asks for that. Checked on opentelemetry-api 1.30 to 1.45; if the variables are absent, the answer is
None, as if none were set. Deletable when the API can tell whether a provider was set.
"""

from __future__ import annotations

import sys
from typing import Any

_WHERE = {
    "metrics": ("opentelemetry.metrics._internal", "_METER_PROVIDER"),
    "traces": ("opentelemetry.trace", "_TRACER_PROVIDER"),
    "logs": ("opentelemetry._logs._internal", "_LOGGER_PROVIDER"),
}


def provider_set(signal: str) -> Any | None:
    """Return the program's provider for ``signal``; None if there is none, or one that does nothing.

    Imports nothing: a program that has not imported the API has set none.
    """
    module, name = _WHERE[signal]
    provider = getattr(sys.modules.get(module), name, None)
    kind = type(provider)
    of_the_api = kind.__module__.startswith("opentelemetry.") and kind.__name__.startswith(("NoOp", "Proxy"))
    return None if of_the_api else provider
