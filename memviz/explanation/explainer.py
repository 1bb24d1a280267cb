"""One network, and what photographs are compared with, prepared to explain one photograph after another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from memviz.explanation.attribution import Attributions, attribute
from memviz.explanation.checkup import find_checkup
from memviz.explanation.choice import known_finding
from memviz.explanation.logit import Logit
from memviz.explanation.maps import METHODS, ExpectedGradients, blurred, image_map
from memviz.explanation.record import Contribution, ExplainConfig, Explanation, LayerShare
from memviz.explanation.reference import Candidates, References
from memviz.explanation.region import Level, RegionCheck, Side, fill, random_regions, top_region
from memviz.files import utf8_name
from memviz.index import Index
from memviz.index.crops import crop
from memviz.layers import ChannelsLast, Layer, capture, isolated, private_copy
from memviz.layers.unit import Unit
from memviz.models import Model
from memviz.progress import Advance

_BATCH = 16  # pictures in one pass
_SHOWN = 720  # px: longest side of the saved part of the photograph


class Explainer:
    """A network, and what a photograph is compared with, prepared for one photograph after another."""

    def __init__(
        self, model: Model, index: Index | None, layers: Sequence[Layer], config: ExplainConfig, seed: int
    ) -> None:
        self._model, self._config, self._seed = model, config, seed
        self._weights = model.fingerprint()
        self._checkup = None if index is None else find_checkup(index)
        self._shown = [layer.address for layer in layers]
        self._addresses = list(dict.fromkeys([*model.named, *self._shown]))
        self._candidates = Candidates.of(index, seed) if config.against == "photographs" else None
        self._seen: dict[int, _Seen] = {}
        with isolated(model.device), torch.no_grad():
            self._logit = Logit(model)

    def explain(self, picture: Image.Image, name: str, digest: str, advance: Advance | None = None) -> Explanation:
        """Explains one photograph, upright RGB, of this name and SHA-256; `advance` is as `attribute` has it."""
        model, config = self._model, self._config
        own = self._see(picture)
        references, seen = self._references(own, digest)
        inputs = torch.stack([each.inputs for each in seen])
        found = attribute(
            model,
            own.inputs[None],
            inputs,
            self._addresses,
            steps=config.steps,
            max_steps=config.max_steps,
            advance=advance,
        )
        mapped = self._map(own.inputs, inputs, found)
        candidates = self._candidates
        standing = candidates.percentile(own.score, digest) if candidates else None
        shares = {address: self._share(address, found, own, seen) for address in self._addresses}
        named = [shares[each] for each in model.named if shares[each].raising or shares[each].lowering]
        return Explanation(
            model.name,
            self._weights,
            model.target,
            utf8_name(name),
            digest,
            own.score,
            found.scale,
            float(found.logits[0]),
            own.crops,
            standing[0] if standing else None,
            standing[1] if standing else 0,
            replace(references, logit=float(found.reference_logits.mean())),
            float(found.pixels.double().sum()),
            float(found.errors[0]),
            bool(found.complete[0]),
            int(found.steps[0]),
            tuple(named),
            tuple(shares[address] for address in self._shown),
            self._regions(own.inputs, mapped),
            {part: text for part in model.branches if (text := known_finding(self._weights, self._checkup, part))},
            config,
            self._seed,
            picture=_visible(picture, model),
            map=mapped.numpy(),
        )

    def _see(self, picture: Image.Image) -> _Seen:
        """What the network makes of a photograph, in one pass, or in one more for each of ten crops."""
        model = self._model
        crops = model.inputs.crops_from_pil(picture)
        score, values = self._activations(crops[0])
        if len(crops) > 1:
            with isolated(model.device), torch.no_grad():
                network = ChannelsLast(private_copy(model.module))
                (score,) = model.scores(model.run(network, crops[None]), 1)
        return _Seen(crops[0], score, len(crops), values)

    def _activations(self, inputs: Tensor) -> tuple[float, dict[str, NDArray[np.float64]]]:
        """The score of one input (3, H, W), and each unit's mean, as `memviz.layers.unit` defines it, by address."""
        model, values = self._model, {}
        with isolated(model.device), torch.no_grad(), capture(self._logit.network, self._addresses) as activations:
            (level,) = self._levels([inputs])
        for address, out in activations.items():
            found = out[0].double().cpu()
            if found.dim() == 3:
                rows, columns = model.layers[address].interior(model.inputs.size)
                found = found[:, rows, columns].mean((1, 2))
            values[address] = found.numpy()
        return level.score, values

    def _references(self, own: _Seen, digest: str) -> tuple[References, list[_Seen]]:
        """What a photograph is compared with."""
        if self._candidates is None:
            inputs = blurred(own.inputs)
            score, values = self._activations(inputs)
            return References("blurred", (), 1, score, 0.0), [_Seen(inputs, score, 1, values)]
        places = self._candidates.draw(self._config.references, digest)
        for place in places:
            if place not in self._seen:
                self._seen[place] = self._see(self._candidates.open(place))
        seen = [self._seen[place] for place in places]
        names = tuple(self._candidates.names[place] for place in places)
        among = len(self._candidates.names) - (digest in self._candidates.hashes)
        score = float(np.mean([each.score for each in seen]))
        return References(self._candidates.source, names, among, score, 0.0), seen

    def _map(self, inputs: Tensor, references: Tensor, found: Attributions) -> Tensor:
        method = METHODS[self._config.method]
        if method is ExpectedGradients:  # they are there already
            return found.maps[0]
        return image_map(self._model, inputs, method(), references)

    def _share(self, address: str, found: Attributions, own: _Seen, seen: Sequence[_Seen]) -> LayerShare:
        contributions = found.units[address][0].numpy()
        names = self._model.named.get(address, ())
        value, reference = own.values[address], np.mean([each.values[address] for each in seen], axis=0)
        order = np.argsort(contributions, kind="stable")
        count = self._config.classes if names else self._config.units

        def rows(places: Iterable[int]) -> tuple[Contribution, ...]:
            return tuple(
                Contribution(
                    str(Unit(address, place)),
                    names[place] if names else "",
                    float(contributions[place]),
                    float(value[place]),
                    float(reference[place]),
                )
                for place in places
            )

        raising = [int(place) for place in order[::-1][:count] if contributions[place] > 0]
        lowering = [int(place) for place in order[:count] if contributions[place] < 0]
        part = known_finding(self._weights, self._checkup, address)
        return LayerShare(address, len(contributions), float(contributions.sum()), rows(raising), rows(lowering), part)

    def _regions(self, inputs: Tensor, mapped: Tensor) -> tuple[RegionCheck, ...]:
        """The checks of what raises and of what lowers the score."""
        generator = np.random.default_rng([abs(self._seed), 1])
        checks = []
        sides: tuple[Side, Side] = ("raises", "lowers")
        for side in sides:
            region = top_region(mapped, self._config.share, side)
            if region is None or region.all():
                continue
            elsewhere = random_regions(region, self._config.controls, generator)
            before, filled, *random = self._levels(
                [inputs, *(fill(inputs, each) for each in (region, *elsewhere))],
            )
            checks.append(RegionCheck(side, float(region.mean()), before, filled, tuple(random)))
        return tuple(checks)

    def _levels(self, pictures: Sequence[Tensor]) -> list[Level]:
        """Scores and logits of inputs (3, H, W), each taken as the only crop."""
        model = self._model
        levels = []
        with isolated(model.device), torch.no_grad():
            for start in range(0, len(pictures), _BATCH):
                batch = torch.stack(list(pictures[start : start + _BATCH])).to(model.device, model.dtype)
                logits = self._logit(batch)
                spec, clip = model.score_spec, model.score_spec.clip
                if self._logit.scale == "logit":
                    scores = spec(logits.sigmoid()[:, None])
                else:
                    scores = logits if clip is None else logits.clamp(*clip)
                levels += [Level(*both) for both in zip(scores.tolist(), logits.tolist(), strict=True)]
        return levels


@dataclass(frozen=True, eq=False)
class _Seen:
    """A photograph as the network sees it.

    Attributes:
        inputs: (3, H, W), of its centre.
        score: as `memviz score` gives it.
        crops: over which the score is the mean.
        values: by address, the mean of each unit (C,).
    """

    inputs: Tensor
    score: float
    crops: int
    values: dict[str, NDArray[np.float64]]


def _visible(picture: Image.Image, model: Model) -> Image.Image:
    """The part of a photograph that the network sees, in the photograph's proportions."""
    height, width = model.inputs.size
    left, top, right, bottom = model.inputs.photo_box((0, 0, width, height), picture.size)
    across, down = right - left, bottom - top
    scale = min(_SHOWN, max(across, down, *model.inputs.size)) / max(across, down)
    size = max(1, round(across * scale)), max(1, round(down * scale))
    seen = crop(picture, (0, 0, width, height), model.inputs, max(size))
    return seen.resize(size, Image.Resampling.LANCZOS)
