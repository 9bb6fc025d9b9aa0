"""What the standard ``OTEL_*`` variables ask of an export by OTLP, and whether what it needs is installed."""

from __future__ import annotations

from collections.abc import Mapping

METRICS, TRACES, LOGS = SIGNALS = ("metrics", "traces", "logs")

PIP = "pip install 'loopwatch[otlp]'"

PREFIX = "OTEL_EXPORTER_OTLP_"
DEFAULT_PROTOCOL = "grpc"
"""As in the rest of OpenTelemetry for Python."""
HTTP_EXPORTER = "otlp_proto_http"
_EXPORTERS = {"grpc": "otlp_proto_grpc", "http/protobuf": HTTP_EXPORTER}


def variable_set(environ: Mapping[str, str]) -> str | None:
    """Return the first variable that says where or how to export; None if there is none."""
    return min((name for name in environ if name.startswith(PREFIX) and environ[name].strip()), default=None)


def disabled(environ: Mapping[str, str]) -> bool:
    """Whether OpenTelemetry is switched off for this process."""
    return environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def wanted(signal: str, environ: Mapping[str, str]) -> bool:
    """Whether ``OTEL_<SIGNAL>_EXPORTER`` lets ``signal`` go by OTLP: yes unless it names only others."""
    names = environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").split(",")
    return names == [""] or any(name.strip().startswith("otlp") for name in names)


def exporter_name(signal: str, environ: Mapping[str, str]) -> str:
    """Return the entry point of the exporter for ``signal``. Raises ValueError for an unknown protocol."""
    own = f"{PREFIX}{signal.upper()}_PROTOCOL"
    name = own if environ.get(own, "").strip() else f"{PREFIX}PROTOCOL"
    protocol = environ.get(name, "").strip() or DEFAULT_PROTOCOL
    if protocol not in _EXPORTERS:
        known = " or ".join(_EXPORTERS)
        raise ValueError(f"{name}={protocol!r}: no such protocol here. Write {known}.")
    return _EXPORTERS[protocol]


def installed(environ: Mapping[str, str]) -> bool:
    """Whether an exporter is installed for each signal that is wanted. Imports none of them."""
    from importlib.metadata import entry_points

    return all(
        entry_points(group=f"opentelemetry_{signal}_exporter", name=exporter_name(signal, environ))
        for signal in SIGNALS
        if wanted(signal, environ)
    )
