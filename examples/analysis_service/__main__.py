"""The service by itself: ``python -m analysis_service --port 8000``, configured by ``ANALYSIS_*``."""

from __future__ import annotations

import argparse
import logging

import uvicorn


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m analysis_service", description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    uvicorn.run("analysis_service.app:create_app", factory=True, port=options.port, log_config=None)


if __name__ == "__main__":
    main()
