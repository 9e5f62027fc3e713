"""A child process that decodes pictures, so that a hostile or broken file harms nobody else.

Started as `python -P -m sfumato.data.worker`: no fork, no import of the caller's main module, no pickle, no
torch. At most 2 GiB of address space where the system can say so. The conversation, over pipes:

    request   one line of JSON {"plan": {...} or null, "items": [...]}, an item being {"path": p},
              {"bytes": n} or {"fault": why}; then the announced bytes, one item after the other
    answer    one line of JSON {"results": [...]}, then the stored bytes of the good results

Without a plan an item is only looked at: {"header": {...}}. With one: {"header", "bytes", "low", "high",
"gray", "hash"}; a bad item: {"error": why}.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .decode import Unreadable, decode, peek
from .fitting import prepare
from .options import Plan

MEMORY = 2 << 30  # 64 million pixels with transparency need about 1.5 GiB on their way
MOST_BYTES = 512 << 20


def answer(data: bytes, plan: Plan | None) -> tuple[dict[str, Any], bytes]:
    """What is said about one item, and its stored bytes."""
    try:
        if plan is None:
            return {"header": peek(data).to_json()}, b""
        header, pixels = decode(data, near=plan.size)
        stored = prepare(header, pixels, plan)
    except Unreadable as error:
        return {"error": str(error)}, b""
    except MemoryError:
        return {"error": "needs more memory than a picture may take"}, b""
    body = stored.tobytes()
    said = {
        "header": header.to_json(),
        "bytes": len(body),
        "low": float(stored.min()),
        "high": float(stored.max()),
        "gray": bool(plan.colours == 3 and (stored[:3] == stored[:1]).all()),
        "hash": hashlib.blake2b(body, digest_size=8).hexdigest(),
    }
    return said, body


def read_item(item: dict[str, Any], stream: BinaryIO) -> bytes:
    """The bytes of one item, from the stream or from its file."""
    if "fault" in item:
        raise Unreadable(item["fault"])
    if "bytes" in item:
        return stream.read(item["bytes"])
    path = Path(item["path"])
    if path.stat().st_size > MOST_BYTES:
        raise Unreadable(f"the file is larger than {MOST_BYTES >> 20} MiB")
    return path.read_bytes()


def serve(incoming: BinaryIO, outgoing: BinaryIO) -> None:
    """Answer requests until the other side closes."""
    while line := incoming.readline():
        request = json.loads(line)
        plan = Plan.from_json(request["plan"]) if request["plan"] else None
        results, bodies = [], []
        for item in request["items"]:
            try:
                said, body = answer(read_item(item, incoming), plan)
            except Unreadable as error:
                said, body = {"error": str(error)}, b""
            except OSError as error:
                said, body = {"error": error.strerror or str(error)}, b""
            results.append(said)
            bodies.append(body)
        outgoing.write(json.dumps({"results": results}).encode() + b"\n")
        outgoing.writelines(bodies)
        outgoing.flush()


def limit_memory() -> None:
    """Cap the address space, where the system knows such a cap (not on Windows, not enforced on a Mac)."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    except (ImportError, ValueError, OSError):
        return


def main() -> None:
    """Speak over the original stdin and stdout; anything a library prints goes nowhere."""
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    if sys.platform != "darwin":
        limit_memory()
    np.zeros(1)  # loaded before the first request is timed
    outgoing.write(b"ready\n")
    outgoing.flush()
    serve(incoming, outgoing)


if __name__ == "__main__":
    main()
