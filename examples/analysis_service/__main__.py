"""The service by itself: ``python -m analysis_service --port 8000``, set up by ``ANALYSIS_*``."""

from __future__ import annotations

import argparse
import logging

import uvicorn

from .logs import log_to


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m analysis_service", description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    log_to(logging.StreamHandler())
    uvicorn.run("analysis_service.app:create_app", factory=True, port=options.port, log_config=None)


if __name__ == "__main__":
    main()
