"""The process that serves: how it is started, what it says, and how it ends."""

import os
import re
import signal
import socket
import subprocess
import sys

import httpx
import pytest
from serving import encoded, upload

from memviz.errors import AppError

# What `memviz app` does, of a small network: the command's own start takes long.
SCRIPT = """
import torch
from serving import QUICK, Reddish
import memviz
from memviz.app import AppConfig, serve
from memviz.models import InputSpec
model = memviz.wrap(Reddish().eval(), InputSpec(size=(32, 32), resize=32), target="memorability")
config = AppConfig(explain=QUICK)
serve(model, host={host!r}, port=0, token={token!r}, config=config, ready=lambda address: print(address, flush=True))
"""


def started(host="127.0.0.1", token=None):
    script = SCRIPT.format(host=host, token=token)
    environment = os.environ | {"PYTHONPATH": "tests:."}
    command = [sys.executable, "-c", script]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_is_and_ends_quietly_with_a_page_open(end):
    process = started()
    address = process.stdout.readline().strip()
    page = httpx.post(f"{address}photographs", files=upload(encoded())).headers["location"]
    with httpx.stream("GET", f"{address[:-1]}{page}/changes", timeout=20) as events:
        lines = events.iter_lines()
        next(lines)
        process.send_signal(end)
        out, err = process.communicate(timeout=20)
    assert "Traceback" not in err
    assert "ERROR" not in err
    assert "photo0" not in out + err


def test_where_others_reach_it_it_asks_for_a_token():
    process = started("0.0.0.0")
    try:
        address = process.stdout.readline().strip()
        port, token = re.fullmatch(r"http://0\.0\.0\.0:(\d+)/\?token=(\S{22})", address).groups()
        base = f"http://127.0.0.1:{port}"
        assert httpx.get(base).status_code == 401
        assert httpx.get(base, headers={"authorization": f"Bearer {token}"}).status_code == 200
    finally:
        process.kill()
        process.communicate()


def test_a_taken_port_is_an_error_of_the_system(model):
    from memviz.app import serve

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            serve(model, port=taken.getsockname()[1])


def test_without_fastapi_it_says_what_to_install(monkeypatch):
    for name in [each for each in sys.modules if each.startswith(("memviz.app", "fastapi"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    with pytest.raises(AppError, match=r"pip install 'memviz\[app\]'"):
        import memviz.app  # noqa: F401
