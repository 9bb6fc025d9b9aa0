"""The service's log: each line says for which request it was written."""

from __future__ import annotations

import logging

from loopwatch.integrations.logging import ContextFilter


def log_to(handler: logging.Handler) -> None:
    """Send all records there."""
    handler.addFilter(ContextFilter("request_id"))
    handler.setFormatter(logging.Formatter("%(levelname)s request %(request_id)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("httpx").setLevel(logging.WARNING)
