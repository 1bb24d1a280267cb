"""How soon a page knows a score: a sample is asked for as by a click, and the page's events are read.

uv run python experiments/app/first.py http://127.0.0.1:8000    # where `memviz app` runs, and nobody asks it
"""

from __future__ import annotations

import sys
import time

import httpx

with httpx.Client(base_url=sys.argv[1], timeout=60) as client:
    for name in ("coffee", "chelsea", "rocket", "flower", "china", "astronaut"):
        began = time.perf_counter()
        page = client.post(f"/samples/{name}").headers["location"]
        client.get(page)
        with client.stream("GET", f"{page}/changes") as events:
            next(line for line in events.iter_lines() if 'class=\\"score\\"' in line)
        print(f"{name}: {time.perf_counter() - began:.2f} s")
        client.post(f"{page}/forget")
        time.sleep(6)  # until its explanation has ended, too
