"""The figures that say what an output's replacement does to the score."""

import json
import math

import numpy as np
import pytest
import torch
from additive import Additive, Shift, find, wrapped
from helpers import unchanged, undisturbed
from PIL import Image
from tiny import Toy
from torch import nn

import memviz
from memviz.errors import ImageError, LayerError, ModelError, StoreError
from memviz.explanation import Effects, branch_effects, layer_effects
from memviz.models import InputSpec
from memviz.models.score_spec import ScoreSpec


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
