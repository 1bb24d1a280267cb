"""Visitors who score a photograph again and again: `run.py` gives the numbers of them."""

import os
from itertools import cycle
from pathlib import Path

from locust import FastHttpUser, constant, task

# Read once: what is measured is the application and not this disk.
PHOTOGRAPHS = cycle([path.read_bytes() for path in sorted(Path(os.environ["PHOTOGRAPHS"]).glob("*.jpg"))[:100]])


class Visitor(FastHttpUser):
    wait_time = constant(0)

    @task
    def score(self):
        body = b"--x\r\nContent-Disposition: form-data; name=photograph; filename=a.jpg\r\n\r\n"
        body += next(PHOTOGRAPHS) + b"\r\n--x--\r\n"
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        with self.client.post("/api/score", data=body, headers=headers, catch_response=True) as answer:
            if answer.status_code == 200 and answer.json()[0]["score"] is None:
                answer.failure("no score")
