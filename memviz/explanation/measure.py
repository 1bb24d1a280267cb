"""The scores of photographs before and after the outputs of modules are replaced: two passes, in bounded memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from memviz.errors import ImageError, LayerError, ModelError
from memviz.evaluation.evaluate import FEW
from memviz.explanation.responses import find_photographs
from memviz.explanation.tap import Call, Tapped, check_outputs, find_fault, tapped
from memviz.files import utf8_name
from memviz.images import Batch, stream
from memviz.index import Index
from memviz.layers import isolated, observe, private_copy, replace_modules
from memviz.models import Model
from memviz.progress import Advance
from memviz.progress import progress as show_progress

Replacement = Literal["mean", "other"]
REPLACEMENTS: tuple[Replacement, ...] = get_args(Replacement)
# Bytes: of the outputs that one batch records, and of those that are kept of all photographs between the passes.
RECORDED, KEPT = 2**29, 2**30


@dataclass(frozen=True)
class Reading:
    """How photographs are read: in this order, each with the SHA-256 that it must have, or None."""

    paths: Sequence[Path]
    hashes: Sequence[str | None]
    batch_size: int
    workers: int
    progress: bool | None

    @classmethod
    def draw(
        cls,
        photographs: Index | str | Path | Iterable[str | Path],
        sample: int | None,
        seed: int,
        batch_size: int,
        workers: int,
        progress: bool | None,
    ) -> Reading:
        """Photographs in a random order, of which a sample is the beginning.

        Args:
            photographs: files and folders, or an index: then those that it ranks.
            sample: how many; None takes all.
            seed: of the order.
            batch_size, workers, progress: of the reading.

        Raises:
            ImageError: no photograph was found, or the sample is too small.
        """
        if sample is not None and sample < FEW:
            raise ImageError(f"sample={sample} is not possible: give {FEW} or more, or None for all photographs.")
        paths, hashes = find_photographs(photographs)
        order = np.random.default_rng(seed).permutation(len(paths))[:sample]
        chosen = [paths[place] for place in order], [hashes[place] for place in order]
        return cls(*chosen, batch_size, workers, progress)


@dataclass(frozen=True, eq=False)
class Measured:
    """Network outputs (N, crops) of the readable photographs, in their order, in double precision.

    Attributes:
        before: with the network as it is.
        after: by address and replacement.
        unreadable: path and reason.
        logit: whether the outputs are those before a final sigmoid.
    """

    before: NDArray[np.float64]
    after: dict[tuple[str, Replacement], NDArray[np.float64]]
    unreadable: dict[str, str]
    logit: bool


def measure(model: Model, addresses: Sequence[str], reading: Reading) -> Measured:
    """Replaces the outputs of modules, one module at a time.

    Another photograph's output is that of the predecessor in the reading's order, and for the first that of the last.

    Args:
        model: with a score.
        addresses: of modules.
        reading: the photographs.

    Raises:
        ModelError: the model does not give one finite number a picture.
        LayerError: a module whose output cannot be replaced.
        ImageError: too few photographs can be read, or they changed between the passes.
    """
    network = private_copy(model.module)
    example = torch.zeros(2, 3, *model.inputs.size, device=model.device, dtype=model.dtype)
    # A caller's autocast would change the score.
    with isolated(model.device), torch.inference_mode():
        logit = remove_sigmoid(network, example)
        # What cannot be measured is refused before photographs are read.
        with tapped(network, [*addresses, *model.branches]) as taps:
            out, calls = taps.record(example)
        check_outputs({address: calls[address] for address in addresses}, len(example))
        model.numbers([out], len(example))
        # A network may also use the parts of what is called a branch, but not the branch.
        branches = [branch for branch in model.branches if not find_fault(calls[branch], len(example))]
        groups = _group({address: _bytes(calls[address]) * reading.batch_size for address in addresses})
        passes = len(reading.paths) * sum(1 + _second_pass(model, group) for group in groups)
        done = []
        with show_progress("Measuring effects", passes, "passes", reading.progress) as advance:
            for group in groups:
                with tapped(network, [*group, *branches], branches) as taps:
                    done.append(_Passes(model, taps, group, reading, advance))
                    done[-1].run()
    after = {key: np.concatenate(found) for each in done for key, found in each.after.items()}
    return Measured(np.concatenate(done[0].before), after, done[0].unreadable, logit)


def remove_sigmoid(network: nn.Module, example: Tensor) -> bool:
    """Takes the sigmoid out of a private network whose output is that of an `nn.Sigmoid`, and says whether it is."""
    outputs: dict[str, list[tuple[Tensor, Tensor]]] = defaultdict(list)

    def keep(address: str) -> Callable[[Tensor], None]:
        return lambda output: outputs[address].append((output, output.clone()))

    sigmoids = [address for address, module in network.named_modules() if isinstance(module, nn.Sigmoid) and address]
    with observe(network, {address: keep(address) for address in sigmoids}):
        out = network(example)
    for address, calls in outputs.items():
        # The same memory, with the same numbers: nothing came after it, not even in place.
        output, numbers = calls[0]
        same = isinstance(out, Tensor) and len(calls) == 1 and out.data_ptr() == output.data_ptr()
        if same and torch.equal(out.flatten(), numbers.flatten()):
            replace_modules(network, {address: nn.Identity()})
            return True
    return False


def _group(sizes: Mapping[str, int]) -> list[list[str]]:
    """Modules whose recorded outputs take no more than `RECORDED` bytes together; a larger one is alone."""
    groups: list[list[str]] = []
    filled = 0
    for address, size in sizes.items():
        if not groups or filled + size > RECORDED:
            groups.append([])
            filled = 0
        groups[-1].append(address)
        filled += size
    return groups


def _second_pass(model: Model, addresses: Iterable[str]) -> int:
    """How many forward passes the second pass takes for a photograph; what follows a branch is short."""
    return 1 + len(REPLACEMENTS) * sum(address not in model.branches for address in addresses)


def _bytes(calls: Iterable[Call]) -> int:
    """What the outputs take for one photograph and crop."""
    return sum(call.output[0].numel() * call.output.element_size() for call in calls)


class _Passes:
    """Two passes over the photographs, for some modules.

    The first gives the means, and what the last photograph gave. In the second each batch knows what its predecessor
    gave, so that no photograph's outputs are kept, but those of branches where they are small, which run once then.
    """

    def __init__(
        self, model: Model, taps: Tapped, addresses: Sequence[str], reading: Reading, advance: Advance
    ) -> None:
        self._model, self._taps, self._addresses, self._reading = model, taps, addresses, reading
        self._advance = advance
        self.before: list[NDArray[np.float64]] = []
        self.after: dict[tuple[str, Replacement], list[NDArray[np.float64]]] = defaultdict(list)
        self.unreadable: dict[str, str] = {}
        # By crop and address, an entry a call.
        self._sums: dict[tuple[int, str], list[Tensor]] = {}
        self._last: dict[tuple[int, str], list[Tensor]] = {}
        # The branches that need not run twice, once the size of their outputs is known; and these: of each batch, by
        # crop, by address.
        self._small: list[str] | None = None
        self._kept: list[list[dict[str, list[Tensor]]]] = []

    def run(self) -> None:
        """Fills `before`, `after` and `unreadable`."""
        read: list[int] = []
        for batch in self._stream():
            read += batch.indices.tolist()
            self._add(batch)
            self._advance(len(batch.indices) + len(batch.failures))
        if len(read) < FEW:
            failed = "".join(f" {utf8_name(path)}: {why}." for path, why in list(self.unreadable.items())[:3])
            raise ImageError(
                f"{len(read)} of {len(self._reading.paths)} photographs can be read, and of fewer than {FEW} nothing "
                f"can be said about the order or the variance of their scores.{failed} Give more photographs."
            )
        means = {key: [total / len(read) for total in totals] for key, totals in self._sums.items()}
        again: list[int] = []
        for number, batch in enumerate(self._stream()):
            again += batch.indices.tolist()
            if again != read[: len(again)]:
                break
            self._replace(batch, means, self._kept[number])
            count = len(batch.indices) + len(batch.failures)
            self._advance(count * _second_pass(self._model, self._addresses))
        if again != read:
            raise ImageError("Photographs were changed while effects were measured. Measure again.")

    def _stream(self) -> Iterator[Batch]:
        reading = self._reading
        prepare = self._model.inputs.crops_from_pil
        batches = stream(reading.paths, prepare, reading.batch_size, workers=reading.workers, hashes=reading.hashes)
        with closing(batches):
            for batch in batches:
                self.unreadable |= {str(failure.path): failure.reason for failure in batch.failures}
                yield batch

    def _crops(self, batch: Batch) -> Iterator[tuple[int, Tensor]]:
        """The crops of a batch's pictures, one after the other, to save memory."""
        for crop in range(batch.pictures.shape[1] if len(batch.indices) else 0):
            yield crop, batch.pictures[:, crop].to(self._model.device, self._model.dtype)

    def _add(self, batch: Batch) -> None:
        kept = []
        for crop, pictures in self._crops(batch):
            _, calls = self._taps.record(pictures)
            check_outputs(calls, len(pictures))
            for address in self._addresses:
                # In double precision, which not every device has; so no batch size changes the mean.
                sums = [call.output.cpu().sum(0, dtype=torch.float64) for call in calls[address]]
                before = self._sums.setdefault((crop, address), [torch.zeros_like(each) for each in sums])
                if [each.shape for each in before] != [each.shape for each in sums]:
                    raise LayerError(
                        f"The output of {address!r} cannot be replaced: the number or the size of its outputs is not "
                        "the same for all photographs. Choose another module."
                    )
                self._sums[crop, address] = [one + two for one, two in zip(before, sums, strict=True)]
            self._last |= {(crop, address): _last(calls[address]) for address in self._addresses}
            if self._small is None:
                self._small = self._find_small(calls, batch.pictures.shape[1])
            kept.append({branch: [call.output.cpu() for call in calls[branch]] for branch in self._small})
        self._kept.append(kept)

    def _find_small(self, calls: Mapping[str, Sequence[Call]], crops: int) -> list[str]:
        """The branches whose outputs are kept for the second pass: those that no module must be recorded in."""
        whole = [
            branch
            for branch in self._taps.remembering
            if not any(self._taps.is_inside(address, branch) for address in self._addresses)
        ]
        needed = sum(_bytes(calls[branch]) for branch in whole) * crops * len(self._reading.paths)
        return whole if needed <= KEPT else []

    def _replace(
        self,
        batch: Batch,
        means: Mapping[tuple[int, str], Sequence[Tensor]],
        kept: Sequence[Mapping[str, Sequence[Tensor]]],
    ) -> None:
        outputs: dict[tuple[str, Replacement] | None, list[object]] = defaultdict(list)
        for crop, pictures in self._crops(batch):
            known = {branch: [each.to(pictures.device) for each in found] for branch, found in kept[crop].items()}
            out, calls = self._taps.record(pictures, known)
            check_outputs(calls, len(pictures))
            outputs[None].append(out)
            for address in self._addresses:
                own = [call.output for call in calls[address]]
                total = [mean.to(one.dtype).to(one.device) for mean, one in zip(means[crop, address], own, strict=True)]
                by_mean = [mean.expand_as(one) for mean, one in zip(total, own, strict=True)]
                last = self._last[crop, address]
                by_other = [torch.cat((before, one[:-1])) for before, one in zip(last, own, strict=True)]
                self._last[crop, address] = _last(calls[address])
                for replacement, given in zip(REPLACEMENTS, (by_mean, by_other), strict=True):
                    outputs[address, replacement].append(self._taps.replace(pictures, address, given, calls))
        for key, found in outputs.items():
            numbers = self._model.numbers(found, len(batch.indices)).cpu().double().numpy()
            if not np.isfinite(numbers).all():
                raise ModelError(
                    f"{self._model.name} predicts nan or infinity{f', with {key[0]!r} replaced' if key else ''}, so "
                    "effects on its score cannot be measured: its weights are damaged, or its InputSpec is wrong."
                )
            (self.before if key is None else self.after[key]).append(numbers)


def _last(calls: Iterable[Call]) -> list[Tensor]:
    """What a module gave for the last picture of a batch."""
    return [call.output[-1:].clone() for call in calls]
