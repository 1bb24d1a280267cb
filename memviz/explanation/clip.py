"""Names from words of one's own, by a network that knows pictures and words, as CLIP (Radford et al. 2021)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.special import softmax

from memviz.errors import LabelError
from memviz.explanation.labellers import Concepts
from memviz.explanation.responses import Responses
from memviz.images import open_image

Array = NDArray[np.float64]
# What CLIP-Dissect multiplies cosines with before the softmax over words (similarity.py, soft_wpmi, a=10).
SHARPNESS = 10.0
BATCH = 32


class Encoder(Protocol):
    """What puts pictures and words into one space.

    Attributes:
        name: that labels tell.
    """

    name: str

    def pictures(self, pictures: Sequence[Image.Image]) -> Array:
        """Vectors (pictures, dimensions) of RGB pictures."""
        ...

    def words(self, words: Sequence[str]) -> Array:
        """Vectors (words, dimensions)."""
        ...


class Words:
    """Words of one's own, by the cosine between each and a photograph, as in CLIP-Dissect.

    A unit is correlated with the cosine; SoftWPMI takes the softmax of ten times the cosines over all words.

    Args:
        encoder: of pictures and words; `open_clip_encoder` makes one.
        words: two or more; `read_words` reads them.

    Raises:
        LabelError: fewer than two words.
    """

    layers: tuple[str, ...] = ()

    def __init__(self, encoder: Encoder, words: Sequence[str]) -> None:
        self._encoder, self._words = encoder, tuple(dict.fromkeys(words))
        if len(self._words) < 2:
            raise LabelError(f"{len(self._words)} words were given to choose names from: give two or more.")

    @property
    def source(self) -> str:
        """The encoder's name."""
        return self._encoder.name

    @property
    def settings(self) -> Mapping[str, Any]:
        """The words' checksum."""
        return {"words": hashlib.sha256("\n".join(self._words).encode()).hexdigest()}

    def concepts(self, measured: Responses) -> Concepts:
        """The cosine of each photograph and word."""
        seen = _unit_length(np.concatenate(list(self._encode(measured.paths))))
        cosines = seen @ _unit_length(np.asarray(self._encoder.words(self._words), dtype=np.float64)).T
        return Concepts(self._words, cosines, softmax(SHARPNESS * cosines, axis=1))

    def _encode(self, paths: Sequence[Path]) -> Iterator[Array]:
        for start in range(0, len(paths), BATCH):
            pictures = [open_image(path) for path in paths[start : start + BATCH]]
            yield np.asarray(self._encoder.pictures(pictures), dtype=np.float64)


def read_words(path: str | os.PathLike[str]) -> list[str]:
    """The words of a text file in UTF-8, one a line; empty lines are left out.

    Raises:
        LabelError: a file that cannot be read.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise LabelError(f"{path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise LabelError(f"{path} is not in UTF-8 ({error}). Save it again as UTF-8.") from error
    return [line.strip() for line in lines if line.strip()]


def open_clip_encoder(name: str = "ViT-B-16", weights: str = "openai", device: str | torch.device = "cpu") -> Encoder:
    """A CLIP network of the package open_clip, whose weights are downloaded where they are not there yet.

    Args:
        name, weights: as `open_clip.list_pretrained()` has them.
        device: on which it runs.

    Raises:
        LabelError: the package is not installed, or the network cannot be had.
    """
    try:
        import open_clip
    except ImportError as error:
        raise LabelError("CLIP needs the package open_clip: pip install 'memviz[clip]'.") from error
    try:
        network, _, prepare = open_clip.create_model_and_transforms(name, pretrained=weights, device=device)
    except Exception as error:  # of open_clip, the network, the disk: it has no type of its own
        raise LabelError(f"The CLIP network {name} with the weights {weights} cannot be had: {error}.") from error
    return _OpenClip(f"CLIP {name} {weights}", network.eval(), prepare, open_clip.get_tokenizer(name), device)


class _OpenClip:
    def __init__(self, name: str, network: Any, prepare: Any, tokenize: Any, device: str | torch.device) -> None:
        self.name = name
        self._network, self._prepare, self._tokenize, self._device = network, prepare, tokenize, device

    @torch.inference_mode()
    def pictures(self, pictures: Sequence[Image.Image]) -> Array:
        batch = torch.stack([self._prepare(picture) for picture in pictures]).to(self._device)
        return np.asarray(self._network.encode_image(batch).double().cpu())

    @torch.inference_mode()
    def words(self, words: Sequence[str]) -> Array:
        parts = [words[start : start + BATCH] for start in range(0, len(words), BATCH)]
        found = [self._network.encode_text(self._tokenize(list(part)).to(self._device)) for part in parts]
        return np.asarray(torch.cat(found).double().cpu())


def _unit_length(vectors: Array) -> Array:
    length: Array = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(length > 0, length, 1.0)
