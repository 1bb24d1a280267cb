"""Networks whose branches have known effects on the score."""

import json
import math

import numpy as np
import pytest
import torch
from helpers import unchanged, undisturbed
from PIL import Image
from tiny import Branches, DataDependent, InPlace, Toy
from torch import nn

import memviz
from memviz.errors import ImageError, LayerError, ModelError, StoreError
from memviz.explain import Effects, branch_effects, effect, layer_effects, measure
from memviz.models import InputSpec
from memviz.models.score_spec import ScoreSpec

INPUTS = InputSpec(size=(4, 4), resize=(4, 4))


class Channel(nn.Module):
    """The mean of one colour, (N, 1)."""

    def __init__(self, channel):
        super().__init__()
        self.channel = channel

    def forward(self, pictures):
        return pictures[:, self.channel].mean((1, 2))[:, None]


class Additive(nn.Module):
    """`weights[0] * red + weights[1] * green`, each by a branch of its own, and what comes after it."""

    def __init__(self, *weights, after=None):
        super().__init__()
        self.red, self.green = Channel(0), Channel(1)
        self.weights = weights
        self.after = nn.Identity() if after is None else after

    def forward(self, pictures):
        return self.after(self.weights[0] * self.red(pictures) + self.weights[1] * self.green(pictures))


def wrapped(network, inputs=INPUTS, branches=("red", "green"), **options):
    return memviz.wrap(network.eval(), inputs, "tiny", "memorability", branches, **options)


def find(effects, address):
    return [effects.effect(address, replacement) for replacement in measure.REPLACEMENTS]


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(effect, "RESAMPLES", 100)


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """30 plain pictures, whose red and green levels are independent; and these levels."""
    folder = tmp_path_factory.mktemp("colours")
    levels = np.random.default_rng(0).integers(0, 256, (30, 3))
    for number, colour in enumerate(levels):
        Image.new("RGB", (5, 4), tuple(int(level) for level in colour)).save(folder / f"{number:02d}.png")
    return folder, levels / 255


def test_a_branch_without_weight_has_no_effect_and_the_other_has_all(colours):
    folder, levels = colours
    effects = branch_effects(wrapped(Additive(1.0, 0.0)), folder)
    assert (effects.photographs, effects.scale, effects.notes) == (30, "score", ())
    assert effects.sd == pytest.approx(levels[:, 0].std(ddof=1), rel=1e-5)
    for none in find(effects, "green"):
        assert none.largest_change == none.mean_change.high == none.share.high == 0
        assert none.spearman.low == 1
        assert none.sd == effects.sd
    mean, other = find(effects, "red")
    assert mean.share.value == pytest.approx(1)
    assert (mean.sd, mean.spearman) == (0, None)
    assert mean.mean_change.value == pytest.approx(np.abs(levels[:, 0] - levels[:, 0].mean()).mean(), rel=1e-5)
    assert mean.largest_change == pytest.approx(np.abs(levels[:, 0] - levels[:, 0].mean()).max(), rel=1e-5)
    assert other.share.low < 1 < other.share.high
    assert other.sd == pytest.approx(effects.sd)
    assert other.spearman.low < 0 < other.spearman.high


def test_another_photographs_output_is_that_of_the_predecessor(colours):
    folder, levels = colours
    order = np.random.default_rng(5).permutation(len(levels))
    change = levels[order, 0] - levels[np.roll(order, 1), 0]
    other = branch_effects(wrapped(Additive(1.0, 1.0)), folder, seed=5).effect("red", "other")
    assert (change != 0).all()
    assert other.mean_change.value == pytest.approx(np.abs(change).mean(), rel=1e-5)
    variance = levels[:, :2].sum(1).var(ddof=1)
    assert other.share.value == pytest.approx(np.square(change).mean() / (2 * variance), rel=1e-4)


def test_shares_of_an_additive_score_are_those_of_its_variance(tmp_path):
    levels = np.random.default_rng(1).integers(0, 256, (300, 2))
    for number, (red, green) in enumerate(levels.tolist()):
        Image.new("RGB", (4, 4), (red, green, 0)).save(tmp_path / f"{number}.png")
    effects = branch_effects(wrapped(Additive(2.0, 1.0)), tmp_path)
    # Two independent uniform variables, one of twice the spread: 4 / 5 and 1 / 5 of the variance.
    for address, share in (("red", 0.8), ("green", 0.2)):
        for each in find(effects, address):
            assert each.share.value == pytest.approx(share, abs=0.06)
            assert each.share.low < share < each.share.high


def test_shares_and_ranks_are_taken_on_the_logit(colours):
    """Saturated, all scores are 1 in 32 bits; the logits still differ."""
    folder, levels = colours
    effects = branch_effects(wrapped(Additive(1.0, 0.0, after=nn.Sequential(Shift(40), nn.Sigmoid()))), folder)
    assert effects.scale == "logit"
    assert effects.effect("red", "mean").largest_change < 1e-6
    assert effects.effect("red", "mean").share.value == pytest.approx(1, rel=1e-3)
    assert effects.effect("green", "mean").share.value == 0
    plain = branch_effects(wrapped(Additive(1.0, 0.0, after=nn.Sigmoid())), folder)
    sigmoid = 1 / (1 + np.exp(-levels[:, 0]))
    assert plain.sd == pytest.approx(sigmoid.std(ddof=1), rel=1e-5)  # in the score's unit all the same
    # What comes after the sigmoid, even in place, makes its output no score.
    for last in (Shift(1), nn.Threshold(0.6, 0, inplace=True)):
        after = nn.Sequential(nn.Sigmoid(), last)
        assert branch_effects(wrapped(Additive(1.0, 0.0, after=after)), folder).scale == "score"


class Shift(nn.Module):
    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, numbers):
        return numbers + self.by


def test_a_clipped_score_hides_no_effect(colours):
    folder, _ = colours
    spec = ScoreSpec(shift=10, clip=(0, 1))
    red = branch_effects(wrapped(Additive(1.0, 0.0), score_spec=spec), folder).effect("red", "mean")
    assert red.largest_change == 0
    assert red.share.value == pytest.approx(1, rel=1e-3)


def test_a_score_without_variance_gets_a_plain_answer(colours):
    effects = branch_effects(wrapped(Additive(0.0, 0.0)), colours[0])
    assert "All 30 photographs have the same score" in effects.notes[0]
    assert effects.sd == 0
    for each in effects.effects:
        assert (each.spearman, each.share, each.largest_change) == (None, None, 0)


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


def flat(one):
    estimates = [one.mean_change, one.share, one.spearman]
    return [one.largest_change, one.sd] + [each.value if each else math.nan for each in estimates]


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


def test_bad_questions_get_a_clear_answer(colours, tmp_path):
    folder, _ = colours
    model = wrapped(Additive(1.0, 0.0))
    with pytest.raises(ModelError, match=r"no branches.*layer_effects"):
        branch_effects(wrapped(Additive(1.0, 0.0), branches=()), folder)
    with pytest.raises(LayerError, match="Close names: green"):
        layer_effects(model, folder, "gren")
    with pytest.raises(LayerError, match="network itself"):
        layer_effects(model, folder, "")
    with pytest.raises(LayerError, match="No layer"):
        layer_effects(model, folder, [])
    silent = Additive(1.0, 0.0)
    silent.unused = nn.Linear(1, 1)
    with pytest.raises(LayerError, match="'unused' cannot be replaced: it does not run"):
        layer_effects(wrapped(silent), folder, "unused")
    with pytest.raises(ModelError, match="one number a picture"):
        layer_effects(wrapped(nn.Sequential(nn.Conv2d(3, 2, 1)), branches=()), folder, "0")
    with pytest.raises(ModelError, match="nan or infinity"):
        branch_effects(wrapped(Additive(math.nan, 0.0)), folder)
    with pytest.raises(ImageError, match="sample=3"):
        branch_effects(model, folder, sample=3)
    with pytest.raises(ImageError, match="11 of 11 photographs can be read, and of fewer than 12 nothing"):
        branch_effects(model, sorted(folder.iterdir())[:11])
    effects = branch_effects(model, folder)
    with pytest.raises(LayerError, match="of red, green it was"):
        effects.effect("blue", "mean")


def test_unreadable_files_are_skipped_and_named(colours, tmp_path):
    folder, levels = colours
    broken = [tmp_path / f"{number}.png" for number in range(3)]
    for path in broken:
        path.write_bytes(b"no picture")
    model = wrapped(Additive(1.0, 0.5))
    with pytest.warns(UserWarning, match="3 unreadable files were skipped") as caught:
        effects = branch_effects(model, [broken[0], folder, *broken[1:]], batch_size=1)
    assert caught[0].filename == __file__
    assert effects.photographs == 30
    assert effects.unreadable.keys() == set(map(str, broken))
    assert effects.effect("red", "mean").largest_change == pytest.approx(
        np.abs(levels[:, 0] - levels[:, 0].mean()).max(), rel=1e-5
    )
    with pytest.raises(ImageError, match=r"11 of 12 .* not a picture"):
        branch_effects(model, [*sorted(folder.iterdir())[:11], broken[0]])


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


def test_an_index_gives_the_photographs_that_it_ranks(colours, tmp_path):
    folder, _ = colours
    torch.manual_seed(0)
    toy = memviz.wrap(Toy().eval(), InputSpec(size=(16, 16), resize=18), "toy", "memorability", Toy.branches)
    copy = tmp_path / "photos"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    (copy / "copy.png").write_bytes((copy / "00.png").read_bytes())
    index = memviz.build_index(toy, copy, out=tmp_path / "index", k=2, progress=False)
    effects = branch_effects(toy, index)
    assert effects.photographs == 30
    assert effects.effects == branch_effects(toy, folder).effects
    Image.new("RGB", (5, 4)).save(copy / "07.png")
    with pytest.warns(UserWarning, match=r"07\.png: its contents were changed"):
        assert branch_effects(toy, index).photographs == 29


def test_a_sample_is_drawn_by_its_seed(colours):
    folder, _ = colours
    model = wrapped(Additive(1.0, 1.0))
    one, same, other = (branch_effects(model, folder, sample=15, seed=seed) for seed in (1, 1, 2))
    assert one.photographs == 15
    assert one == same
    assert one.effects != other.effects


def test_effects_survive_json(colours):
    effects = branch_effects(wrapped(Additive(1.0, 0.0)), colours[0])
    assert Effects.from_dict(json.loads(json.dumps(effects.to_dict()))) == effects
    with pytest.raises(StoreError, match="no effects"):
        Effects.from_dict({"model": 3})
    frame = effects.frame()
    assert list(frame["address"]) == ["red", "red", "green", "green"]
    assert math.isnan(frame["spearman_low"][0])
    assert frame["share"][2] == 0


def test_the_callers_network_and_the_globals_stay_as_they_were(colours):
    folder, _ = colours
    module = Toy()
    module.train()
    module.resnet.eval()
    module.register_forward_hook(lambda part, inputs, output: None)
    model = memviz.wrap(module, InputSpec(size=(16, 16), resize=18), "toy", "memorability", Toy.branches)
    with unchanged(module), undisturbed():
        branch_effects(model, folder)
        layer_effects(model, folder, ["alexnet.0", "resnet"])


def test_the_published_alexnet_branch_has_no_effect(resmem, originals):
    photographs = [path for path in originals.values() if path.suffix in (".png", ".jpg")][:14]
    effects = branch_effects(resmem, photographs)
    assert effects.scale == "logit"
    for each in find(effects, "alexnet"):
        assert each.largest_change < 1e-3
        assert each.spearman.value > 0.999
        assert each.share.value < 1e-3
    mean, other = find(effects, "resnet")
    assert mean.sd < 0.01 * effects.sd
    assert mean.share.value > 0.99
    assert other.share.low > 0.3
