"""Whether a prometheus_client registry has both a ``MeterProvider`` of OpenTelemetry's and a given collector.

The private attributes of the provider, of its ``PrometheusMetricReader`` and of the registry. Checked on
opentelemetry-sdk 1.30 to 1.45 and prometheus_client 0.21 to 0.26; if they are absent, nothing is found.
Deletable when a collector is told which registry asks it.
"""

from __future__ import annotations

import sys
from typing import Any

_READER = "PrometheusMetricReader"


def shares_registry(provider: Any, collector: object) -> bool:
    """Whether ``collector`` is in a registry that also has the provider's metrics."""
    readers = getattr(getattr(provider, "_measurement_consumer", None), "_reader_storages", ())
    default = getattr(sys.modules.get("prometheus_client"), "REGISTRY", None)
    return any(
        collector in getattr(getattr(reader, "_registry", default), "_collector_to_names", ())
        for reader in list(readers)
        if type(reader).__name__ == _READER
    )
