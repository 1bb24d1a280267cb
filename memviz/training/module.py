"""The network as a Lightning module: loss, optimizer, and validation."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torchmetrics import MeanSquaredError, SpearmanCorrCoef

from memviz.errors import DivergedError
from memviz.layers import replace_modules, replace_response_norms
from memviz.models import InputSpec
from memviz.models.score_spec import ScoreSpec
from memviz.training.config import TrainConfig
from memviz.training.features import network_input
from memviz.training.initialize import normalize, start_at
from memviz.training.movement import trained_weights
from memviz.training.optimizers import optimizer, scale_gradients, schedule

# Photographs by which a normalized start is measured.
NORMALIZED_ON = 64


class Examples(NamedTuple):
    """A batch: pixels (N, 3, H, W) uint8, scores (N,), and outputs (N, 1 or 2, ...) of frozen submodules by address."""

    pixels: Tensor
    scores: Tensor
    frozen: dict[str, Tensor]


class CachedOutput(nn.Module):
    """Replaces a submodule whose output for the current batch is on disk."""

    def __init__(self) -> None:
        super().__init__()
        self.output: Tensor | None = None

    def forward(self, pictures: Tensor) -> Tensor:
        """The output that was set; the pictures are ignored."""
        assert self.output is not None
        return self.output


class Regression(LightningModule):
    """A memorability network, trained on the mean squared error.

    Args:
        network: maps inputs (N, 3, H, W) to one number a picture. It is changed: frozen submodules no longer require
            gradients and stay in evaluation mode, so that the statistics of their batch norms do not change.
        inputs, score_spec: its preprocessing, and how its output becomes the score.
        frozen: addresses of the submodules that are not trained.
        config: the settings.
        initialized: the network was drawn by `initialize`, and is to start at the mean of the training scores.
        pretrained: addresses of the submodules that were not drawn.

    `history` has a row for each epoch: epoch, step, train_mse, val_mse, val_spearman, seconds. `begun` has the trained
    layers' weights before the first step, by address, in the first process.

    Frozen submodules whose outputs come with the examples are not run: the network has a `CachedOutput` in their place.
    """

    def __init__(
        self,
        network: nn.Module,
        inputs: InputSpec,
        score_spec: ScoreSpec,
        frozen: tuple[str, ...],
        config: TrainConfig,
        initialized: bool = False,
        pretrained: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        replace_response_norms(self.network)
        for address in frozen:
            self.network.get_submodule(address).requires_grad_(False)
        self.inputs, self.score_spec, self.frozen, self.config = inputs, score_spec, frozen, config
        self.initialized, self.pretrained = initialized, pretrained
        self.begun: dict[str, Tensor] = {}
        self.val_mse, self.val_spearman = MeanSquaredError(), SpearmanCorrCoef()
        self.train_mse = MeanSquaredError()
        self.history: list[dict[str, float]] = []
        self.started = 0.0
        # Lightning keeps the mode it finds, and a loaded network is in evaluation mode.
        self.train()

    def setup(self, stage: str) -> None:
        """Completes a start at random by the training photographs: `normalize` where asked for, and `start_at`."""
        if self.initialized:
            subset = self.trainer.datamodule.subsets["train"]  # type: ignore[attr-defined]
            if self.config.initialization == "normalized":
                generator = torch.Generator().manual_seed(self.config.seed)
                batch = subset.__getitems__(torch.randperm(len(subset), generator=generator)[:NORMALIZED_ON].tolist())
                self.eval()
                normalize(self.network, lambda: self(batch), (*self.frozen, *self.pretrained))
                self.train()
            start_at(self.network, self.score_spec.inverse(float(subset.scores.mean())))
        if self.trainer.is_global_zero:
            self.begun = trained_weights(self.network)

    def train(self, mode: bool = True) -> Regression:
        """Training mode for all but the frozen submodules."""
        super().train(mode)
        for address in self.frozen:
            self.network.get_submodule(address).eval()
        return self

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The recipe's optimizer for what is not frozen, and its learning rate schedule."""
        chosen = optimizer(self.network, self.config)
        planned = schedule(chosen, self.config, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": chosen, "lr_scheduler": {"scheduler": planned, "interval": "step"}}

    def forward(self, examples: Examples, mirrored: Tensor | None = None) -> Tensor:
        """The unclipped scores (N,); `mirrored` (N,) bool selects the photographs that are mirrored."""
        pictures = network_input(self.inputs, examples.pixels)
        if mirrored is not None:
            pictures = torch.where(mirrored[:, None, None, None], pictures.flip(-1), pictures)
        for address, outputs in examples.frozen.items():
            cached: Any = self.network.get_submodule(address)
            rows = torch.arange(len(outputs), device=outputs.device)
            cached.output = outputs[:, 0] if mirrored is None else outputs[rows, mirrored.long()]
        out: Tensor = self.network(pictures.contiguous(memory_format=torch.channels_last))
        return self.score_spec.unclipped(out.float().flatten())

    def on_train_epoch_start(self) -> None:
        """Starts the epoch's clock."""
        self.started = time.monotonic()

    def on_train_batch_start(self, batch: Examples, batch_idx: int) -> None:
        """Seeds flips and dropout by the step, so that a resumed training draws the same values."""
        torch.manual_seed(hash((self.config.seed, self.global_step, self.global_rank)) % 2**63)

    def training_step(self, batch: Examples, batch_idx: int) -> Tensor:
        """The mean squared error of a batch."""
        mirrored = (torch.rand(len(batch.scores)) < 0.5).to(batch.scores.device) if self.config.flip else None
        predictions = self(batch, mirrored)
        self.train_mse.update(predictions.detach(), batch.scores)
        loss = functional.mse_loss(predictions, batch.scores)
        self.log("loss", loss, prog_bar=True)
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Scales the gradients of the branches; by then processes have averaged them, and 16-bit ones are unscaled."""
        if self.config.branch_gradient_scale != 1:
            branches: Any = self.network.branches
            scale_gradients(self.network, branches, self.config.branch_gradient_scale)

    def on_train_epoch_end(self) -> None:
        """Adds a row to the history, or ends a training that has diverged."""
        mse = float(self.train_mse.compute())
        self.train_mse.reset()
        measured = {name: float(self.trainer.callback_metrics[name]) for name in ("val_mse", "val_spearman")}
        # The last step's loss may be finite although the weights after it are not.
        if not (math.isfinite(mse) and math.isfinite(measured["val_mse"])):
            scale = self.config.branch_gradient_scale
            raise DivergedError(
                f"Training diverged in epoch {self.current_epoch + 1}: the mean squared error is {mse} on the training "
                f"subset, {measured['val_mse']} on the validation subset. Try a smaller learning_rate than "
                f"{self.config.learning_rate:g}{f', or branch_gradient_scale than {scale:g}' if scale > 1 else ''}."
            )
        self.log("train_mse", mse)
        self.history.append(
            {"epoch": self.current_epoch + 1, "step": self.global_step, "train_mse": mse}
            | measured
            | {"seconds": time.monotonic() - self.started}
        )

    def validation_step(self, batch: Examples, batch_idx: int) -> None:
        """Collects predictions, in full precision, since 16 bits would produce ties."""
        with torch.autocast(self.device.type, enabled=False):
            predictions = self(batch)
        self.val_mse.update(predictions, batch.scores)
        self.val_spearman.update(predictions, batch.scores)
        self.log_dict({"val_mse": self.val_mse, "val_spearman": self.val_spearman}, prog_bar=True, on_epoch=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Stores the history, so that after a crash it has the epochs of the checkpoint and no others."""
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the history."""
        self.history = list(checkpoint["history"])


def without(network: nn.Module, addresses: Iterable[str]) -> dict[str, nn.Module]:
    """Replaces submodules by `CachedOutput`s, and returns them by address."""
    submodules = {address: network.get_submodule(address) for address in addresses}
    replace_modules(network, {address: CachedOutput() for address in submodules})
    return submodules
