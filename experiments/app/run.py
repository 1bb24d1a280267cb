"""How long a score takes with 1, 10 and 100 visitors at once: starts `memviz app`, and lets locust ask.

uv run --with locust python experiments/app/run.py PHOTOGRAPHS --out experiments/app/results
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).parent


def resident(process: int) -> float:
    """The memory of a process, in MB."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) / 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument("--visitors", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--seconds", type=int, default=30)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", "from memviz.cli import main; main()", "app", "resmem", "--port", "0"]
    app = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    rows = []
    try:
        address = app.stdout.readline().split()[1].rstrip("/")
        print(f"serving, {resident(app.pid):,.0f} MB", flush=True)
        for visitors in asked.visitors:
            peak, over = [0.0], threading.Event()

            def watch(peak: list[float] = peak, over: threading.Event = over) -> None:
                while not over.wait(0.2):
                    peak[0] = max(peak[0], resident(app.pid))

            watcher = threading.Thread(target=watch)
            watcher.start()
            name = asked.out / f"{visitors}"
            subprocess.run(
                [
                    *(sys.executable, "-m", "locust", "-f", HERE / "locustfile.py", "--headless", "--only-summary"),
                    *("-u", str(visitors), "-r", str(visitors), "-t", f"{asked.seconds}s", "--host", address),
                    *("--csv", name, "--exit-code-on-error", "0", "--loglevel", "ERROR"),
                ],
                env=os.environ | {"PHOTOGRAPHS": str(asked.photographs)},
                check=True,
                stdout=subprocess.DEVNULL,
            )
            over.set()
            watcher.join()
            with open(f"{name}_stats.csv", newline="") as file:
                found = next(row for row in csv.DictReader(file) if row["Name"] == "Aggregated")
            rows.append(
                {
                    "visitors": visitors,
                    "requests": found["Request Count"],
                    "failures": found["Failure Count"],
                    "per_second": f"{float(found['Requests/s']):.2f}",
                    "p50_ms": found["50%"],
                    "p99_ms": found["99%"],
                    "peak_mb": f"{peak[0]:.0f}",
                }
            )
            print(rows[-1], flush=True)
            for rest in asked.out.glob(f"{visitors}_*.csv"):
                rest.unlink()
            time.sleep(2)
    finally:
        app.send_signal(signal.SIGINT)
        app.wait(30)
    with (asked.out / "scores.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0].keys())
        table.writeheader()
        table.writerows(rows)


if __name__ == "__main__":
    main()
