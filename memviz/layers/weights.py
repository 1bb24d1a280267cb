"""Has a layer learned? Its weights alone tell whether they are still those of a random start."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.parameter import UninitializedParameter

from memviz.layers.chance import STANDARD_ERRORS, beyond, neighbour_correlation
from memviz.layers.draws import LITTLE, Draws, compare, match

Verdict = Literal["random start", "constant start", "hardly moved", "trained", "undecided"]

# Fewer weights than that are not called random: in trained networks, the largest layer that looked so had 288.
TOO_FEW = 2_000
# Where the scale is no known start's, which is less evidence: the largest had 4,096 (CHGNet's `mlp_out`).
TOO_FEW_OF_OWN_SCALE = 8_000
# A change of a scale that starts at 1, by that share of it, as `memviz.training.movement` has it for weights.
STILL = 0.01
# The lengths of filters under weight normalization: their start depends on the filters.
_LENGTHS = {"weight_g", "original0"}


@dataclass(frozen=True)
class LayerWeights:
    """What the weights of one layer tell.

    Attributes:
        address: torch's dotted name of the module.
        parameter: the name of its weights, mostly "weight"; "in_proj_weight" of an attention.
        kind: the module's class.
        shape: of the weights, as torch has it.
        count: of the weights.
        verdict: "random start": nothing is more than chance, or what has changed is less than 1 % of the weights' norm.
            "hardly moved": it is more, but need not be more than 5 %. "constant start": all weights have one value, and
            shifts are 0, as normalizations start, or layers that start at 0. "trained": none of these. "undecided":
            see `reason`.
        std: standard deviation about 0.
        kurtosis: fourth moment over the squared variance; 1.8 for uniform, 3 for normal weights.
        largest: largest absolute weight.
        constant_filters: filters whose weights are all equal: 0 for dead ones. They are left out of the statistics.
        family: the distribution, "uniform", "normal" or "truncated normal", where it is a random start's.
        start: the known start that has this family and standard deviation; None for one of another scale.
        start_std: that start's standard deviation.
        scaled: whether each filter has a scale of its own, as after data-dependent initialization.
        moved: at least this share of the weights' norm has changed; 0 if nothing is more than chance.
        neighbours: of a convolution, the correlation of its weights at neighbouring positions of the kernel; None where
            the kernel has one position.
        neighbours_limit: its largest absolute value that is left to chance.
        evidence: (what was looked at, its deviation over the limit that is left to chance), largest first; above 1 is
            more than chance.
        reason: why it is undecided.
    """

    address: str
    parameter: str
    kind: str
    shape: tuple[int, ...]
    count: int
    verdict: Verdict
    std: float | None = None
    kurtosis: float | None = None
    largest: float | None = None
    constant_filters: int = 0
    family: str | None = None
    start: str | None = None
    start_std: float | None = None
    scaled: bool = False
    moved: float | None = None
    neighbours: float | None = None
    neighbours_limit: float | None = None
    evidence: tuple[tuple[str, float], ...] = ()
    reason: str | None = None

    @property
    def untrained(self) -> bool:
        """Whether it is at its start, or hardly away from it."""
        return self.verdict in ("random start", "constant start", "hardly moved")

    @property
    def sentence(self) -> str:
        """The verdict in plain words."""
        if self.verdict == "undecided":
            return f"It cannot be told whether it has learned: {self.reason}."
        if self.verdict == "constant start":
            return f"It has not learned: {self.reason}."
        clearest = f"clearest in: {self.evidence[0][0]}" if self.evidence else ""
        if self.verdict == "trained":
            return f"It has learned: its weights are not those of a random start ({clearest})."
        scale = "each filter scaled" if self.scaled else self.start or "a scale of its own"
        start = f"{self.family}, {scale}" if self.family else "constant"
        change = f"{self.moved or 0:.2%} of the weights' norm"
        if self.verdict == "random start":
            besides = f", but for a change of at least {change}" if self.moved else ""
            return f"It has not learned: its weights are at their random start ({start}){besides}."
        return f"It has hardly moved from its start ({start}): what has changed is at least {change} ({clearest})."

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


def finding(layers: Sequence[LayerWeights]) -> str:
    """What is amiss with the weights of a network or a part of it, in a phrase; empty where nothing is."""
    known = [each for each in layers if each.verdict != "undecided"]
    untrained = [each for each in known if each.untrained]
    if not untrained:
        return ""
    if len(untrained) < len(known):
        return f"{len(untrained)} of {len(known)} layers at their random start"
    hardly = any(each.verdict == "hardly moved" for each in untrained)
    return "weights hardly away from their random start" if hardly else "weights at their random start"


def judgement(layers: Sequence[LayerWeights]) -> str:
    """Whether a network or a part of it has learned, with the counts and its first convolution's smoothness, in words.

    >>> judgement(check_weights(nn.Linear(100, 100)))
    'weights at their random start (0 of 1 layers have learned; 0 have too little to tell)'
    """
    known = [each for each in layers if each.verdict != "undecided"]
    told = finding(layers) or ("weights trained" if known else "nothing can be told of its weights")
    facts = f"{sum(not each.untrained for each in known)} of {len(known)} layers have learned"
    facts += f"; {len(layers) - len(known)} have too little to tell"
    for each in layers:
        if each.neighbours is not None and each.neighbours_limit is not None:
            facts += f"; neighbouring weights of the first convolution, {each.address}, correlate by "
            facts += f"{each.neighbours:z.2f}, where chance gives up to {each.neighbours_limit:.2f}"
            break
    return f"{told} ({facts})"


@torch.no_grad()
def check_weights(network: nn.Module) -> tuple[LayerWeights, ...]:
    """Whether each layer of a network has learned, by its weights alone.

    Random starts draw all weights of a layer independently from one distribution. Learning makes filters, inputs,
    positions and directions of a layer differ from one another, neighbouring positions similar, and tails heavy. Each
    of these is tested, see `memviz.layers.chance` for statistics, limits and sources, and
    `memviz.layers.starts` for the starts.

    A random start means that nothing of that was found, or a change of less than 1 % of the weights' norm. Measured
    with changes added to the starts of layers of 17,000 to 2.4 million weights: after torch's default start, whose
    bound shows each change, "hardly moved" begins at .01 to .03 of the norm and "trained" at .05 to .1. A normal start
    has no bound: a change in one direction shows from .05, in ten from .1 to .3, in fifty from .3; one that is the same
    at all positions of the kernel from .1. In AlexNet's first convolution, which is small, one direction and equal
    positions show at .3, more directions not even then. Independent normal changes never show.
    Sparse and identity starts (`nn.init.sparse_`, `dirac_`) are not known, and count as trained.
    In theory (Benaych-Georges and Nadakuditi 2011, "The Eigenvalues and Eigenvectors of Finite, Low Rank Perturbations
    of Large Random Matrices") a change in k directions shows from sqrt(k) (p n)^(-1/4) of the norm of p x n weights.

    Args:
        network: any module, on any device, of any floating-point type. It does not run and stays as it is, as does the
            global random state.

    Returns:
        One entry for each parameter with weights, at each of its addresses, in the order of `named_modules`. Biases and
        the shifts of normalizations have none of their own.

    Example:
        >>> for layer in check_weights(nn.Sequential(nn.Conv2d(3, 64, 7), nn.BatchNorm2d(64), nn.Linear(64, 2))):
        ...     print(layer.address, layer.verdict, layer.start)
        0 random start torch's default
        1 constant start None
        2 undecided None
    """
    checked: dict[int, LayerWeights] = {}
    rows = []
    for address, module in network.named_modules(remove_duplicate=False):
        for name, tensor in _weights(module):
            owner, place, parameter = module, address, name
            if ".parametrizations." in f".{address}":  # what torch.nn.utils.parametrizations computes a weight from
                parent, _, parameter = f".{address}".rpartition(".parametrizations.")
                place = parent[1:]
                owner = network.get_submodule(place)
            if id(tensor) not in checked:
                checked[id(tensor)] = _check(owner, tensor)
            kind = type(owner).__name__
            rows.append(replace(checked[id(tensor)], address=place, parameter=parameter, kind=kind))
    return tuple(rows)


def _weights(module: nn.Module) -> Iterator[tuple[str, Any]]:
    if callable(getattr(type(module), "weight", None)):  # torch's quantized layers pack their weights
        yield "weight", None
    if isinstance(module, _NormBase) and module.weight is None and module.running_mean is not None:
        yield "running_mean", module.running_mean
    for name, tensor in module.named_parameters(recurse=False):
        scalar = not isinstance(tensor, UninitializedParameter) and tensor.dim() == 0
        if not (scalar or "bias" in name.split("_") or name in _LENGTHS):
            yield name, tensor


def _check(module: nn.Module, tensor: Tensor | None) -> LayerWeights:
    blank = LayerWeights("", "", "", (), 0, "undecided")
    if tensor is None:
        return replace(blank, reason="its weights are quantized")
    if isinstance(tensor, UninitializedParameter):
        return replace(blank, reason="it has no weights before the network has run once")
    blank = replace(blank, shape=tuple(tensor.shape), count=tensor.numel())
    if tensor.is_meta or not tensor.numel():
        return replace(blank, reason="its weights have no values")
    if not tensor.is_floating_point() or tensor.is_quantized or tensor.layout != torch.strided:
        return replace(blank, reason=f"its weights are {tensor.dtype} and {tensor.layout}, which is not looked into")
    values = tensor.detach()
    if values.element_size() == 1:  # torch has no arithmetic for 8-bit numbers
        values = values.float()
    low, high = float(values.min()), float(values.max())
    if not math.isfinite(low + high):
        return replace(blank, reason="some of its weights are infinite or not a number")
    blank = replace(blank, largest=max(-low, high))
    if "norm" in type(module).__name__.lower() and tensor.dim() == 1:
        return _check_scale(module, values.float(), blank)
    if low == high:
        return replace(blank, verdict="constant start", moved=0.0, reason=f"all its weights are {low:g}")
    return _check_draws(module, values if values.dim() > 1 else values[None], blank)


def _check_scale(module: nn.Module, values: Tensor, blank: LayerWeights) -> LayerWeights:
    """Of a normalization, whose scales start equal, mostly at 1, and whose shifts start at 0."""
    measured = False
    if isinstance(module, _NormBase) and module.running_mean is not None and module.running_var is not None:
        measured = bool((module.running_mean != 0).any() or (module.running_var != 1).any())
        if module.weight is None:
            reason = "it has no weights; its statistics are those of pictures" if measured else "mean 0 and variance 1"
            return replace(blank, verdict="undecided" if measured else "constant start", reason=reason)
    shift = getattr(module, "bias", None)
    shifts = shift.detach().float() if isinstance(shift, Tensor) and shift.shape == values.shape else values * 0
    start = float(values.median())
    start = 1.0 if abs(start - 1) < STILL else start
    change = ((values - start).square() + shifts.square()).mean().sqrt()
    moved = float(change) / max(abs(start), float(values.square().mean().sqrt())) if change else 0.0
    if moved == 0:
        known = f"its scale is {start:g} and its shift 0, as they start"
        return replace(
            blank,
            verdict="constant start",
            moved=0.0,
            reason=f"{known}; only its statistics are those of pictures" if measured else known,
        )
    verdict: Verdict = "hardly moved" if moved < STILL else "trained"
    return replace(
        blank,
        verdict=verdict,
        moved=moved,
        std=float(values.square().mean().sqrt()),
        evidence=(("scale or shift", moved / STILL),),
    )


def _check_draws(module: nn.Module, values: Tensor, blank: LayerWeights) -> LayerWeights:
    """Of weights that a random start draws."""
    groups = module.groups if isinstance(module, _ConvNd) else 1
    transposed = isinstance(module, _ConvTransposeNd)
    draws = compare(values, groups, transposed, torch.Generator().manual_seed(0))
    if draws is None:
        return replace(blank, verdict="constant start", reason="each filter's weights are all equal")
    start = None
    if draws.fits and not draws.scaled and draws.count >= TOO_FEW:
        start = match(draws, values.shape, isinstance(module, nn.RNNBase | nn.RNNCellBase), blank.largest or 0.0)
        if start and start.family == "uniform":
            draws = draws.observe(beyond(values, start.bound))
    kernel = values.shape[2:] if isinstance(module, _ConvNd) else ()
    correlation, pairs = neighbour_correlation(values / values.square().mean().sqrt(), kernel)
    verdict, reason = _judge(draws, start is not None, values.shape[0] == 1)
    at_start = verdict in ("random start", "hardly moved")
    deviations = [(each.name, round(each.value / each.limit, 3)) for each in draws.statistics]
    return replace(
        blank,
        verdict=verdict,
        std=draws.std,
        kurtosis=draws.kurtosis,
        constant_filters=draws.constant,
        family=draws.family.name if at_start else None,
        start=start.name if start and at_start else None,
        start_std=start.std if start and at_start else None,
        scaled=draws.scaled and at_start,
        moved=draws.moved,
        neighbours=correlation if pairs else None,
        neighbours_limit=STANDARD_ERRORS / math.sqrt(pairs) if pairs else None,
        evidence=tuple(sorted(deviations, key=lambda each: -each[1])),
        reason=reason,
    )


def _judge(draws: Draws, known: bool, single: bool) -> tuple[Verdict, str | None]:
    """The verdict, and why there is none; `known` is whether the scale is a known start's, `single` one filter's."""
    if not draws.fits or draws.moved >= LITTLE:
        return "trained", None
    if draws.count < (TOO_FEW if known else TOO_FEW_OF_OWN_SCALE):
        return "undecided", f"{draws.count:,} weights are too few"
    if not known and (single or not (draws.scaled or draws.by_chance)):
        return "undecided", f"it has nearly independent {draws.family.name} weights, but no known start's scale"
    return "random start" if draws.moved < STILL else "hardly moved", None
