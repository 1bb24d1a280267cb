"""The application on a port of its own, of a small network whose score is known: the photograph's mean red."""

import io
import signal
import socket
import threading
import time
from contextlib import contextmanager

import httpx
import numpy as np
import torch
import uvicorn
from PIL import Image
from torch import nn

from memviz.app.server import ending
from memviz.explanation import ExplainConfig

QUICK = ExplainConfig(references=3, steps=2, max_steps=2, controls=1, units=2)


class Reddish(nn.Module):
    """The mean red, as a convolution with three units sees it, and classes with names beside it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1, bias=False)
        self.conv.weight.data = torch.eye(3)[:, :, None, None].clone()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(3, 3, bias=False)
        self.fc.weight.data = torch.eye(3)
        self.last = nn.Linear(3, 1, bias=False)
        self.last.weight.data.zero_()
        self.last.weight.data[0, 0] = 1.0
        self.end = nn.Sigmoid()

    def forward(self, pictures):
        return self.end(self.last(self.fc(self.pool(self.conv(pictures)).flatten(1))))


def picture(red=200, size=(64, 48), seed=0):
    pixels = np.random.default_rng(seed).integers(0, 40, (size[1], size[0], 3), np.uint8)
    pixels[..., 0] = red
    return Image.fromarray(pixels)


def encoded(image=None, kind="PNG", **options):
    buffer = io.BytesIO()
    (image or picture()).save(buffer, kind, **options)
    return buffer.getvalue()


def upload(*contents, names=None):
    names = names or [f"photo{number}.png" for number in range(len(contents))]
    return [("photograph", (name, content, "image/png")) for name, content in zip(names, contents, strict=True)]


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


@contextmanager
def served(app):
    """The address of an application while it runs in a thread."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(256)
        server = ending(uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=5)), app)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            until(lambda: server.started)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.handle_exit(signal.SIGINT, None)
            thread.join(20)
            assert not thread.is_alive()


class App:
    """A running application, with a client of it."""

    def __init__(self, app, base):
        self.desk, self.held, self.base = app.state.desk, app.state.held, base
        self.client = httpx.Client(base_url=base, timeout=30)

    def post(self, path, *contents, names=None, **options):
        return self.client.post(path, files=upload(*contents, names=names), **options)

    def get(self, path, **options):
        return self.client.get(path, **options)

    def raw(self, request, *headers):
        """A connection on which a request has begun: b"GET /path" and its headers."""
        host, _, port = self.base.removeprefix("http://").partition(":")
        connection = socket.create_connection((host, int(port)), timeout=20)
        connection.sendall(b"\r\n".join([request + b" HTTP/1.1", b"host: localhost", *headers, b"", b""]))
        return connection

    def give(self, *contents, names=None):
        """The page of photographs, without its address's host."""
        answer = self.post("/photographs", *contents, names=names)
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]

    def scored(self, page):
        until(lambda: all(each.state != "waiting" for each in self.batch(page).photographs))

    def batch(self, page):
        return self.held.get(page.rpartition("/")[2])


class Held:
    """Stands in for an explainer: it goes on until it is let go, or cancelled."""

    def __init__(self, explainer):
        self.explainer, self.go, self.began, self.ended = explainer, threading.Event(), threading.Event(), False

    def explain(self, picture, name, digest, advance):
        self.began.set()
        try:
            while not self.go.wait(0.01):
                advance(0)
        except BaseException:
            self.ended = True
            raise
        return self.explainer.explain(picture, name, digest, advance)
