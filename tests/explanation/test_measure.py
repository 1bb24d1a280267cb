"""What replaces an output, and where: against known answers, and against plain hooks."""

import numpy as np
import pytest
import torch
from additive import Additive, Channel, Shift, find, flat, wrapped
from PIL import Image
from tiny import Branches, DataDependent, InPlace, Viewed
from torch import nn

from memviz.errors import ImageError, LayerError
from memviz.explanation import branch_effects, layer_effects, measure
from memviz.models import InputSpec


def test_another_photographs_output_is_that_of_the_predecessor(colours):
    folder, levels = colours
    order = np.random.default_rng(5).permutation(len(levels))
    change = levels[order, 0] - levels[np.roll(order, 1), 0]
    other = branch_effects(wrapped(Additive(1.0, 1.0)), folder, seed=5).effect("red", "other")
    assert (change != 0).all()
    assert other.mean_change.value == pytest.approx(np.abs(change).mean(), rel=1e-5)
    variance = levels[:, :2].sum(1).var(ddof=1)
    assert other.share.value == pytest.approx(np.square(change).mean() / (2 * variance), rel=1e-4)


@pytest.mark.parametrize("crops", ["centre", "ten"])
@pytest.mark.parametrize("network", ["branches", "untraceable"])
def test_no_batch_size_and_no_memory_limit_changes_a_figure(crops, network, originals, monkeypatch):
    inputs = InputSpec(size=(12, 12), resize=(16, 16), crops=crops)
    torch.manual_seed(3)
    module = Branches() if network == "branches" else DataDependent(Branches())
    branches = ("left", "right") if network == "branches" else ("network",)
    photographs = [path for path in originals.values() if path.suffix in (".png", ".jpg")][:14]
    inner = "left.0" if network == "branches" else "network.left.0"
    model = wrapped(module, inputs, branches)

    def run(batch_size):
        found = branch_effects(model, photographs, batch_size=batch_size)
        return (
            found.effects + layer_effects(model, photographs, [inner, inner[:-1] + "2"], batch_size=batch_size).effects
        )

    whole = run(16)
    monkeypatch.setattr(measure, "KEPT", 0)
    monkeypatch.setattr(measure, "RECORDED", 0)
    for one, two in zip(whole, run(3), strict=True):
        assert flat(one) == pytest.approx(flat(two), rel=1e-3, abs=1e-6, nan_ok=True)


def test_replacing_equals_running_a_network_with_other_parts(colours):
    """In-place operations follow each layer, and one layer's output is read twice: against plain hooks."""
    folder, _ = colours
    torch.manual_seed(1)
    network = nn.Sequential(InPlace().eval(), nn.Linear(2, 1)).eval()
    addresses = ["0.conv1", "0.conv2", "0.same", "0.conv3", "0.norm"]
    inputs = InputSpec(size=(8, 8), resize=(8, 8))
    effects = layer_effects(wrapped(network, inputs, ()), folder, addresses, seed=2)
    order = np.random.default_rng(2).permutation(30)
    files = sorted(folder.iterdir())
    batch = torch.stack([inputs.from_pil(Image.open(files[place])) for place in order])
    with torch.no_grad():
        before = network(batch.clone())
        for address in addresses:
            own = []
            part = network.get_submodule(address)
            handle = part.register_forward_hook(lambda part, given, out: own.append(out.clone()))  # noqa: B023
            network(batch.clone())
            handle.remove()
            stand_ins = own[0].mean(0).expand_as(own[0]), own[0].roll(1, 0)
            for stand_in, found in zip(stand_ins, find(effects, address), strict=True):
                handle = part.register_forward_hook(lambda part, given, out: stand_in.clone())  # noqa: B023
                change = (network(batch.clone()) - before).abs()
                handle.remove()
                assert found.largest_change == pytest.approx(float(change.max()), rel=1e-3, abs=1e-6)
                assert found.mean_change.value == pytest.approx(float(change.mean()), rel=1e-3, abs=1e-6)


class Twice(nn.Module):
    """One module runs on two inputs; its second output alone is the score."""

    def __init__(self):
        super().__init__()
        self.part = Channel(0)
        self.weight = 0.0

    def forward(self, pictures):
        return self.weight * self.part(pictures) + self.part(pictures.flip(1))


def test_each_use_of_a_module_is_replaced_by_itself(colours):
    folder, levels = colours
    mean = layer_effects(wrapped(Twice(), branches=()), folder, "part").effect("part", "mean")
    assert mean.largest_change == pytest.approx(np.abs(levels[:, 2] - levels[:, 2].mean()).max(), rel=1e-5)


class Chain(nn.Module):
    """Branches, one of which reads the other, and may overwrite its own input, which a third part reads."""

    def __init__(self, inplace):
        super().__init__()
        self.red = Channel(0)
        self.later = nn.Sequential(nn.Threshold(0.5, 0.0, inplace=inplace), Shift(0.0))

    def forward(self, pictures):
        first = self.red(pictures)
        return self.later(first) + first


@pytest.mark.parametrize("inplace", [True, False])
def test_what_a_replaced_branch_feeds_runs_again(inplace, colours):
    folder, levels = colours
    red = levels[:, 0]

    def score(level):
        high = np.where(level > 0.5, level, 0)
        return high + (high if inplace else level)

    effects = branch_effects(wrapped(Chain(inplace), branches=("red", "later")), folder)
    assert effects.sd == pytest.approx(score(red).std(ddof=1), rel=1e-5)
    mean = effects.effect("red", "mean")
    assert mean.sd == 0
    assert mean.largest_change == pytest.approx(np.abs(score(red) - score(red.mean())).max(), rel=1e-5)
    # The second branch still does to its input what it did.
    rest = np.where(red > 0.5, red, 0) if inplace else red
    assert effects.effect("later", "mean").sd == pytest.approx(rest.std(ddof=1), rel=1e-5)


def test_a_layer_inside_a_branch_is_replaced_where_the_other_branches_are_not_run_again(colours):
    network = Additive(1.0, 1.0)
    network.red = nn.Sequential(network.red, nn.ReLU(inplace=True))
    model = wrapped(network)
    branch, layer = branch_effects(model, colours[0]), layer_effects(model, colours[0], "red.0", sample=None)
    for one, two in zip(find(branch, "red"), find(layer, "red.0"), strict=True):
        assert one.largest_change > 0.1
        assert flat(one) == pytest.approx(flat(two))


def test_each_crop_is_replaced_by_the_mean_of_its_own(originals):
    photographs = [path for path in originals.values() if path.suffix in (".png", ".jpg")][:14]
    model = wrapped(Additive(1.0, 0.0), InputSpec(size=(4, 4), resize=(9, 9), crops="ten"))
    scores = model.score(photographs)["memorability"]
    mean = branch_effects(model, photographs).effect("red", "mean")
    assert mean.sd == 0
    assert mean.largest_change == pytest.approx(float((scores - scores.mean()).abs().max()), rel=1e-4)


class Returns(Additive):
    """A branch whose result is something else than one tensor for each picture."""

    def __init__(self, pack):
        super().__init__(1.0, 1.0)
        self.other = Pack(pack)

    def forward(self, pictures):
        self.other(pictures)
        return super().forward(pictures)


class Pack(nn.Module):
    def __init__(self, pack):
        super().__init__()
        self.pack = pack

    def forward(self, pictures):
        return self.pack(pictures)


@pytest.mark.parametrize(
    ("pack", "reason"),
    [
        (lambda pictures: (pictures, pictures), "returns a tuple"),
        (lambda pictures: {"out": pictures}, "returns a dict"),
        (lambda pictures: pictures.mean(0), "for 2 pictures"),
        (lambda pictures: pictures.long(), "torch.int64"),
    ],
)
def test_outputs_that_cannot_be_replaced_are_refused(pack, reason, colours):
    with pytest.raises(LayerError, match=rf"'other' cannot be replaced: it .*{reason}.*one tensor"):
        branch_effects(wrapped(Returns(pack), branches=("red", "other")), colours[0])


def test_a_photograph_that_changes_between_the_passes_is_refused(colours, tmp_path, monkeypatch):
    folder, _ = colours
    copy = tmp_path / "00.png"
    copy.write_bytes((folder / "00.png").read_bytes())
    add = measure._Passes._add

    def spoil(self, batch):
        add(self, batch)
        copy.write_bytes(b"no picture any more")

    monkeypatch.setattr(measure._Passes, "_add", spoil)
    photographs = [copy, *sorted(folder.iterdir())[1:]]
    with pytest.raises(ImageError, match="changed while effects were measured"):
        branch_effects(wrapped(Additive(1.0, 1.0)), photographs, batch_size=30)


class Parts(nn.Module):
    """Uses the parts of what is called a branch; the other branch flattens its maps by `view`."""

    def __init__(self):
        super().__init__()
        self.left = nn.ModuleDict({"red": Channel(0)})
        self.right = Viewed(4)

    def forward(self, pictures):
        return self.left["red"](pictures) + self.right(pictures)


def test_layers_of_what_never_runs_as_a_whole(colours):
    folder, _ = colours
    model = wrapped(Parts(), branches=("left", "right"))
    effects = layer_effects(model, folder, ["left.red", "right.conv"], sample=None)
    assert effects.effect("left.red", "mean").share.value > 0.1
    assert effects.effect("right.conv", "mean").largest_change > 0.01
    with pytest.raises(LayerError, match="'left' cannot be replaced: it does not run"):
        branch_effects(model, folder)
