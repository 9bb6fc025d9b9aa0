"""A stand-in for mongod, which Debian lacks: as much of its protocol as PyMongo needs to connect and to find.

    python mongod.py PORT

``find({"delay": 0.3})`` returns one document after 0.3 seconds, ``find({"behind": "x"})`` once there was a
``find({"opens": "x"})``. Any password is right: of the user ``app`` at once, of ``x`` once there was that.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
import sys
from collections import defaultdict
from typing import Any

import bson

HEADER = struct.Struct("<iiii")  # length, request id, the request it answers, what kind of message
OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013

HELLO = {
    "isWritablePrimary": True,
    "ismaster": True,
    "helloOk": True,
    "minWireVersion": 0,
    "maxWireVersion": 21,  # MongoDB 7.0
    "maxBsonObjectSize": 16 << 20,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000,
    "logicalSessionTimeoutMinutes": 30,
    "readOnly": False,
}


gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
gates["app"].set()


async def execute(command: dict[str, Any]) -> dict[str, Any]:
    name = next(iter(command))
    match name.lower():
        case "hello" | "ismaster":
            return {**HELLO, "ok": 1.0}
        case "saslstart":
            await gates[command["payload"].split(b"\0")[1].decode()].wait()
            return {"conversationId": 1, "done": True, "payload": b"", "ok": 1.0}
        case "ping" | "endsessions":
            return {"ok": 1.0}
        case "find":
            asked = command["filter"]
            if "opens" in asked:
                gates[asked["opens"]].set()
            if "behind" in asked:
                await gates[asked["behind"]].wait()
            await asyncio.sleep(asked.get("delay", 0))
            namespace = f"{command['$db']}.{command[name]}"
            return {"cursor": {"id": 0, "ns": namespace, "firstBatch": [{"_id": 1}]}, "ok": 1.0}
    return {"ok": 0.0, "errmsg": f"no such command: {name!r}", "code": 59, "codeName": "CommandNotFound"}


def command_in(kind: int, body: bytes) -> dict[str, Any]:
    if kind == OP_QUERY:  # flags, the collection's name and a zero byte, two numbers, the command
        return bson.decode(body[body.index(b"\0", 4) + 9 :])
    assert kind == OP_MSG, kind
    assert body[4] == 0, "the first section is the command"
    (length,) = struct.unpack_from("<i", body, 5)
    return bson.decode(body[5 : 5 + length])


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for reply_id in itertools.count(1):
        try:
            length, request_id, _, kind = HEADER.unpack(await reader.readexactly(HEADER.size))
            body = await reader.readexactly(length - HEADER.size)
        except (asyncio.IncompleteReadError, ConnectionError):
            break
        document = bson.encode(await execute(command_in(kind, body)))
        if kind == OP_QUERY:
            kind, start = OP_REPLY, struct.pack("<iqii", 8, 0, 0, 1)
        else:
            start = struct.pack("<ib", 0, 0)
        length = HEADER.size + len(start) + len(document)
        writer.write(HEADER.pack(length, reply_id, request_id, kind) + start + document)
    writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))
    print("serving", flush=True)
    await server.serve_forever()


asyncio.run(main())
