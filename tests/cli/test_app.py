"""`memviz app`, as a process of its own, since it runs until it is ended."""

import math
import os
import re
import signal
import subprocess
import sys

import httpx
import pytest
from serving import encoded, upload


def started(*arguments):
    command = [sys.executable, "-c", "from memviz.cli import main; main()", "app", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)


def test_it_serves_until_it_is_ended():
    process = started("memnet", "--weights", "random", "--port", "0", "--references", "1", "--steps", "1")
    address = re.fullmatch(r"Open (http://127\.0\.0\.1:\d+/)\n", process.stdout.readline()).group(1)
    (row,) = httpx.post(f"{address}api/score", files=upload(encoded()), timeout=60).json()
    assert math.isfinite(row["score"])
    assert "memnet" in httpx.get(address).text
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert "Traceback" not in err
    assert "Stopped" in err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("nothing",), 1, "nothing"),
        (("memnet", "--weights", "random", "--site", "nowhere"), 1, "nowhere"),
        (("memnet", "--weights", "random", "--index", "nowhere"), 1, "nowhere"),
        (("memnet", "--token", "a", "--no-token"), 2, "--no-token"),
        (("memnet", "--port", "99999"), 2, "65535"),
        (("memnet", "--weights", "random", "--steps", "0"), 1, "steps"),
        (("memnet", "--weights", "random", "--megabytes", "0"), 1, "body"),
    ],
)
def test_what_is_wrong_is_said(memviz, arguments, code, said):
    done = memviz("app", *arguments)
    assert done.code == code
    assert said in done.err
