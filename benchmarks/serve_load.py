"""How long one client and fifty wait for their chunks.

    dap serve outputs/train/drawer --port 8000          # in one terminal
    python benchmarks/serve_load.py --server ws://127.0.0.1:8000 --seconds 60 --clients 50 --rate 1

Each client asks at its own steady pace from a random moment on, as robots do that play a chunk between two requests;
the load is bounded by that pace. Latency runs from the moment a request is due to its answer, so that a server that
falls behind cannot hide it. One client is measured first, for the same time at the same pace.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import time
from collections import Counter
from typing import Any

import numpy as np
from websockets.asyncio.client import connect

from lerobot_policy_dap.runtime.wire import decode, encode


async def robot(
    server: str, seconds: float, rate: float, waits: list[float], outcomes: Counter[str]
) -> dict[str, Any]:
    """Asks every `1 / rate` seconds; returns the server's metadata."""
    headers = {"Authorization": f"Api-Key {key}"} if (key := os.environ.get("DAP_API_KEY")) else None
    rng = np.random.default_rng(random.getrandbits(32))
    async with connect(
        server, compression=None, max_size=None, additional_headers=headers, proxy=None
    ) as connection:
        metadata = decode(await connection.recv())
        seen = {
            name: rng.integers(0, 256, (f["height"], f["width"], f["channels"]), dtype=np.uint8)
            if f["kind"] == "image"
            else np.zeros(f["length"], np.float32)
            for name, f in metadata["observation"].items()
        }
        message = encode(seen)
        began = time.perf_counter() + random.random() / rate
        for i in range(int(seconds * rate)):
            due = began + i / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await connection.send(message)
            answer = await connection.recv()
            waits.append(time.perf_counter() - due)
            outcomes["answered" if isinstance(answer, bytes) else answer.partition(": ")[0]] += 1
        return metadata


async def load(server: str, clients: int, seconds: float, rate: float) -> dict[str, Any]:
    """Figures of `clients` robots at once."""
    waits: list[float] = []
    outcomes: Counter[str] = Counter()
    robots = (robot(server, seconds, rate, waits, outcomes) for _ in range(clients))
    done = await asyncio.gather(*robots, return_exceptions=True)
    outcomes.update(f"lost: {type(error).__name__}" for error in done if isinstance(error, BaseException))
    p50, p99 = np.percentile(waits, [50, 99]) * 1000 if waits else (float("nan"),) * 2
    return {
        "clients": clients,
        "requests": len(waits),
        "outcomes": dict(outcomes),
        "p50_ms": round(float(p50), 1),
        "p99_ms": round(float(p99), 1),
        "max_ms": round(1000 * max(waits, default=float("nan")), 1),
    }


async def measure(server: str, clients: int, seconds: float, rate: float) -> dict[str, Any]:
    """One client, then `clients`, and the ratio of their waits."""
    one = await load(server, 1, seconds, rate)
    many = await load(server, clients, seconds, rate)
    return {
        "one": one,
        "many": many,
        "ratio": {name: round(many[name] / one[name], 2) for name in ("p50_ms", "p99_ms")},
        "seconds": seconds,
        "requests_a_second_of_each": rate,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--server", default="ws://127.0.0.1:8000")
    options.add_argument("--clients", type=int, default=50)
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--rate", type=float, default=1.0, help="requests a second of each client")
    asked = options.parse_args()
    figures = asyncio.run(measure(asked.server, asked.clients, asked.seconds, asked.rate))
    print(json.dumps(figures, indent=2))
    print(f"\n{'clients':>8} {'requests':>9} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8}  outcomes")
    for row in (figures["one"], figures["many"]):
        numbers = f"{row['clients']:8} {row['requests']:9} {row['p50_ms']:8} {row['p99_ms']:8} {row['max_ms']:8}"
        print(f"{numbers}  {row['outcomes']}")
    if set(figures["one"]["outcomes"]) | set(figures["many"]["outcomes"]) != {"answered"}:
        raise SystemExit("error: not every request was answered with actions")
    print(f"{'ratio':>8} {'':9} {figures['ratio']['p50_ms']:8} {figures['ratio']['p99_ms']:8}")


if __name__ == "__main__":
    main()
