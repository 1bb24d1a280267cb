"""Where photographs are worked on: scores at once, in batches; explanations one after the other, beside them."""

from __future__ import annotations

import hashlib
import io
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import torch
from PIL import Image, ImageOps
from torch import Tensor

from memviz.app.config import AppConfig
from memviz.app.held import Photograph, RefusedError
from memviz.errors import FormatError, ImageError, MemvizError, ModelError
from memviz.explanation.choice import chosen_layers
from memviz.explanation.explainer import Explainer
from memviz.explanation.reference import Candidates
from memviz.gallery.explanation import draw_map
from memviz.gallery.pictures import jpeg
from memviz.images import decode_image, package_photos
from memviz.index import Index
from memviz.layers import ChannelsLast, private_copy
from memviz.models import Model

_SMALL = 320  # px, the longer side of the small copies
_TOGETHER = 16  # photographs that are scored in one pass
_PAUSE = 0.5  # s
_DECODERS = 2  # threads: a large photograph takes 0.3 GB while it is decoded
_log = logging.getLogger(__name__)
_FAILED = "It could not be worked on; whoever runs the application finds the reason in its log."


class _CancelledError(Exception):
    """Nobody waits for this explanation any more."""


class Desk:
    """Scores and explains photographs, in threads of its own.

    Args:
        model: with a score; it stays as it is.
        index: of the model: percentiles are among its photographs, and references are drawn from them. Without one
            references come with installed packages, and there are no percentiles.
        config: the limits.

    Attributes:
        weights: the model's fingerprint, which takes half a second of ResMem.

    Raises:
        ModelError: the model does not give one number a picture.
        StoreError: an index of other weights.
    """

    def __init__(self, model: Model, index: Index | None, config: AppConfig) -> None:
        if model.target is None:
            raise ModelError(f"{model.name} has no score, and the application shows scores. Give another model.")
        if index is not None:
            index.check_model(model)
        self.model, self.index, self.config = model, index, config
        self.weights = model.fingerprint()
        layers = chosen_layers(model, index, config.explain.layers, self.weights)
        self._explainer = Explainer(model, index, layers, config.explain, config.seed)
        self._candidates = None if index is None else Candidates.of(index, config.seed)
        self._network = ChannelsLast(private_copy(model.module))
        self._decoders = ThreadPoolExecutor(_DECODERS, thread_name_prefix="decode")
        self._changed = threading.Condition()
        self._unscored: list[tuple[Photograph, Tensor]] = []
        self._queue: list[Photograph] = []
        self._closed = False
        self._threads = [
            threading.Thread(target=each, name=each.__name__.strip("_"), daemon=True)
            for each in (self._score, self._explain)
        ]
        for thread in self._threads:
            thread.start()

    def warm_up(self) -> None:
        """Scores a photograph, so that the first visitor does not wait for what is done once."""
        name, path = next(iter(package_photos().items()))
        photograph = Photograph(name, path.read_bytes(), "")
        self.receive(photograph)
        while photograph.state == "waiting":
            time.sleep(0.01)
        if photograph.state != "scored":
            raise ModelError(photograph.reason)

    def receive(self, photograph: Photograph) -> None:
        """Decodes and scores a photograph, in the background."""
        self._decoders.submit(self._read, photograph)

    def explain(self, photograph: Photograph) -> None:
        """Puts a photograph that has a score into the queue.

        Raises:
            RefusedError: 429 where the client has too many there already, 503 where the queue is full, 409 where it has
                no score.
        """
        with self._changed:
            if photograph.state in ("queued", "explaining", "explained"):
                return
            if photograph.score is None:
                raise RefusedError(409, "It has no score, so there is nothing to explain.")
            if sum(each.client == photograph.client for each in self._queue) >= self.config.explanations_per_client:
                raise RefusedError(
                    429, f"{self.config.explanations_per_client} of your photographs wait already. Try again later."
                )
            if len(self._queue) >= self.config.queue:
                raise RefusedError(503, "Too many explanations wait already. Try again in some minutes.")
            photograph.change("queued")
            self._queue.append(photograph)
            self._changed.notify_all()

    def cancel(self, photograph: Photograph) -> None:
        """Ends the work on a photograph: at once where it waits, after its present pass where it has begun."""
        with self._changed:
            if photograph.working:
                photograph.change("cancelled")
            if photograph in self._queue:
                self._queue.remove(photograph)

    def position(self, photograph: Photograph) -> int:
        """How many explanations are done before it."""
        with self._changed:
            return self._queue.index(photograph) + 1 if photograph in self._queue else 0

    def close(self) -> None:
        """Ends all work."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._decoders.shutdown(wait=False, cancel_futures=True)
        for thread in self._threads:
            thread.join()

    def _read(self, photograph: Photograph) -> None:
        if photograph.state != "waiting":
            return
        try:
            picture = decode_image(photograph.content, photograph.name, self.config.pixels)
            pixels = self.model.inputs.pixels_from_pil(picture)
            photograph.small = jpeg(ImageOps.contain(picture, (_SMALL, _SMALL), Image.Resampling.LANCZOS), 85)
        except ImageError as error:
            photograph.content, photograph.kind = b"", "format" if isinstance(error, FormatError) else "content"
            photograph.change("unreadable", str(error).partition(": ")[2])
            return
        except Exception as error:  # nobody asks this thread what became of it
            self._fail(photograph, error)
            return
        with self._changed:
            self._unscored.append((photograph, pixels))
            self._changed.notify_all()

    def _next(self, ready: Callable[[], bool]) -> bool:
        """Waits until there is something to do; false once the desk is closed. The lock is held."""
        self._changed.wait_for(lambda: self._closed or ready())
        return not self._closed

    def _score(self) -> None:
        while True:
            with self._changed:
                if not self._next(lambda: bool(self._unscored)):
                    return
                batch, self._unscored = self._unscored[:_TOGETHER], self._unscored[_TOGETHER:]
            batch = [each for each in batch if each[0].state == "waiting"]
            if not batch:
                continue
            try:
                with torch.inference_mode():
                    outputs = self.model.run_pixels(self._network, torch.stack([pixels for _, pixels in batch]))
                    scores = self.model.scores(outputs, len(batch))
            except Exception as error:  # of one visitor's photographs; the others' go on
                for photograph, _ in batch:
                    self._fail(photograph, error)
                continue
            for (photograph, _), score in zip(batch, scores, strict=True):
                photograph.score = score
                if self._candidates is not None:
                    standing = self._candidates.percentile(score, _digest(photograph))
                    photograph.percentile, photograph.ranked = standing or (None, 0)
                with self._changed:
                    if photograph.state == "waiting":
                        photograph.change("scored")
                if photograph.wanted:
                    with suppress(RefusedError):  # the page then offers it
                        self.explain(photograph)

    def _explain(self) -> None:
        while True:
            with self._changed:
                if not self._next(lambda: bool(self._queue)):
                    return
                # Its score is shown first: what an explanation begins with leaves the pages little of Python's lock.
                self._changed.wait_for(lambda: self._closed, _PAUSE)
                if self._closed or not self._queue:
                    continue
                photograph = self._queue.pop(0)
                photograph.done, photograph.passes, photograph.started = 0, self.config.explain.passes, time.monotonic()
                photograph.change("explaining")
                for each in self._queue:
                    each.version += 1  # its place has changed
            try:
                self._explain_one(photograph)
            except _CancelledError:
                continue
            except Exception as error:  # of one visitor's photograph; the others' go on
                self._fail(photograph, error)

    def _explain_one(self, photograph: Photograph) -> None:
        def advance(count: int = 1) -> None:
            if self._closed or photograph.state != "explaining":
                raise _CancelledError
            photograph.done += count
            photograph.version += 1

        picture = decode_image(photograph.content, photograph.name, self.config.pixels)
        found = self._explainer.explain(picture, photograph.name, _digest(photograph), advance)
        assert found.picture is not None
        buffer = io.BytesIO()
        draw_map(found).save(buffer, "PNG")
        photograph.map, photograph.seen = buffer.getvalue(), jpeg(found.picture, 90)
        photograph.explanation = replace(found, picture=None, map=None)
        with self._changed:
            if photograph.state == "explaining":
                photograph.content = b""
                photograph.change("explained")

    def _fail(self, photograph: Photograph, error: Exception) -> None:
        known = isinstance(error, MemvizError)
        if not known:
            _log.error("A photograph could not be worked on", exc_info=error)
        with self._changed:
            if photograph.working:
                photograph.change("failed", str(error) if known else _FAILED)


def _digest(photograph: Photograph) -> str:
    return hashlib.sha256(photograph.content).hexdigest()
