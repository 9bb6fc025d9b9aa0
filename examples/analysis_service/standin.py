"""A stand-in for an LLM: slow answers of the right size and shape, on loopback, in a process of its own.

``python -m analysis_service.standin --port 8001 --scale 30``
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import socket
import sys
import threading
from itertools import count

import uvicorn
from fastapi import FastAPI, Response
from pydantic import BaseModel

CONTRACT = """
    The liability of either party under this agreement is limited to direct damages caused by gross
    negligence. Notice must be given in writing within thirty days. Renewal is automatic unless terminated.
"""
DEEP_TOKENS = 74_000
"""Tokens of an answer with ``logprobs``: 2 MB of JSON."""
RATE_LIMITED = 40
"""One request in this many is told to come back later."""
CUT_SHORT = 25
"""One short answer in this many is cut off in the middle, as at a token limit."""


def answer(rng: random.Random, *, logprobs: bool, cut_short: bool = False) -> bytes:
    """Write an answer to one section, in the form of a chat completion."""
    words = CONTRACT.split()
    findings = [" ".join(rng.choices(words, k=14)) for _ in range(10)]
    content = json.dumps({"findings": findings})
    choice: dict[str, object] = {
        "finish_reason": "length" if cut_short else "stop",
        "message": {"role": "assistant", "content": content[: len(content) // 2] if cut_short else content},
    }
    if logprobs:
        choice["logprobs"] = {
            "tokens": rng.choices(words, k=DEEP_TOKENS),
            "token_logprobs": [round(-rng.expovariate(2.0), 6) for _ in range(DEEP_TOKENS)],
            "text_offset": list(range(DEEP_TOKENS)),
        }
    return json.dumps({"object": "chat.completion", "choices": [choice]}).encode()


def latency(rng: random.Random) -> float:
    """Draw the time an LLM takes to answer: 2 to 90 seconds, with a median of 12."""
    return min(max(rng.lognormvariate(2.5, 0.8), 2.0), 90.0)


class Question(BaseModel):
    """The part of the request that matters here."""

    logprobs: bool = False


def create_app(scale: float) -> FastAPI:
    """Build the stand-in; its latencies are divided by ``scale``."""
    rng = random.Random(7)
    deep = [answer(rng, logprobs=True) for _ in range(4)]
    asked = count(1)
    short_asked = count(1)
    app = FastAPI(title="LLM stand-in")

    @app.post("/v1/chat/completions")
    async def complete(question: Question) -> Response:
        if next(asked) % RATE_LIMITED == 0:
            return Response(status_code=429, headers={"retry-after-ms": str(round(15_000 / scale))})
        await asyncio.sleep(latency(rng) / scale)
        if question.logprobs:
            content = rng.choice(deep)
        else:
            content = answer(rng, logprobs=False, cut_short=next(short_asked) % CUT_SHORT == 0)
        return Response(content, media_type="application/json")

    return app


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m analysis_service.standin", description=__doc__)
    parser.add_argument("--port", type=int, default=8001, help="0: any free one; it is printed")
    parser.add_argument("--scale", type=float, default=1.0, help="divides the latencies, 2 to 90 s")
    parser.add_argument("--until-eof", action="store_true", help="end when standard input does")
    options = parser.parse_args()
    listener = socket.create_server(("127.0.0.1", options.port), backlog=1024)
    server = uvicorn.Server(uvicorn.Config(create_app(options.scale), log_level="warning"))
    if options.until_eof:
        threading.Thread(target=_end_with_input, args=(server,), daemon=True).start()
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    server.run(sockets=[listener])


def _end_with_input(server: uvicorn.Server) -> None:
    sys.stdin.read()
    server.should_exit = True


if __name__ == "__main__":
    main()
