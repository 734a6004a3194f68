"""Fifty clients at once: every answer arrives, and none is an error."""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from small_policies import serving

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from serve_load import measure


def test_fifty_clients_all_get_their_answers(model):
    with serving(model, deadline=60.0) as server:
        with ThreadPoolExecutor(1) as elsewhere:  # the browser tests leave a running loop in the main thread
            load = measure(f"ws://127.0.0.1:{server.port}", clients=50, seconds=3, rate=1.0)
            figures = elsewhere.submit(asyncio.run, load).result()
        assert figures["one"]["outcomes"] == {"answered": 3}
        assert figures["many"]["outcomes"] == {"answered": 150}
        assert server.metrics.value("requests_total", outcome="answered") == 153
        assert server.metrics.value("requests_total", outcome="refused") == 0
