"""What comes in by telnet may be anything, and a client may do as it likes: nobody else notices."""

from __future__ import annotations

import os
import signal
import socket
import threading

import pytest

from .test_telnet import HEAD, Connect, Idle, connect, idle, start, told, url_of  # noqa: F401  (fixtures)
from .child import Child

DELAYS = """
install()

async def main():
    await up()
    loop = asyncio.get_running_loop()
    delays = []

    def tell():
        say("delays", len(delays), round(sorted(delays)[len(delays) * 99 // 100], 4))
        delays.clear()

    on_signal(tell)
    while True:
        began = time.monotonic()
        await asyncio.sleep(0.005)
        delays.append(time.monotonic() - began - 0.005)

run(main())
"""
