import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import Viewed

from memviz.errors import ModelError, StoreError
from memviz.images import list_images, open_image
from memviz.index.scan import Maxima, ScanState, spatial_maximum
from memviz.index.scanner import Scan
from memviz.index.topk import TopK
from memviz.layers import capture
from memviz.models import wrap
from memviz.work import work


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_spatial_maximum_is_the_first_in_row_order(layout):
    generator = torch.Generator().manual_seed(0)
    maps = torch.randint(-3, 3, (4, 6, 5, 7), generator=generator).float().to(memory_format=layout)
    values, positions = spatial_maximum(maps)
    for row in range(4):
        for unit in range(6):
            flat = maps[row, unit].flatten().tolist()
            assert values[row, unit] == max(flat)
            assert positions[row, unit] == flat.index(max(flat))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_nan_anywhere_is_found(layout):
    maps = torch.zeros(1, 9, 5, 5).to(memory_format=layout)
    maps[0, 4, 3, 3] = torch.nan
    assert spatial_maximum(maps)[0].isnan().tolist() == [[unit == 4 for unit in range(9)]]


def test_vectors_are_their_own_maximum():
    values, positions = spatial_maximum(torch.tensor([[1.0, -2.0]]))
    assert values.tolist() == [[1.0, -2.0]]
    assert positions.tolist() == [[0, 0]]


def empty(model, names, k=4):
    return ScanState(TopK(sum(model.layers[name].channels for name in names), k))


def test_a_network_that_flattens_by_view_is_watched(model, photos):
    viewed = wrap(Viewed(model.inputs.size[0]).eval(), model.inputs, target="memorability")
    state = run(viewed, photos, ["conv", "fc"], 8)
    paths = list_images(photos)
    with torch.no_grad(), capture(viewed.module, ["conv", "fc"]) as maps:
        viewed.module(torch.stack([model.inputs.from_pil(open_image(path)) for path in paths]))
    rows, columns = viewed.layers["conv"].interior(model.inputs.size)
    peaks = torch.cat([maps["conv"][:, :, rows, columns].amax((2, 3)), maps["fc"]], dim=1)
    torch.testing.assert_close(state.ranking.top().values[:, 0], peaks.amax(dim=0))
    assert list(state.read["prediction"]) == pytest.approx(maps["fc"].flatten().tolist(), abs=1e-6)


def run(model, photos, names, batch_size, photographs=None, state=None):
    paths = list_images(photos)
    state = state or empty(model, names)
    layers = [model.layers[name] for name in names]
    photographs = photographs or range(len(paths))
    scan = Scan(layers, state.ranking.k, dict.fromkeys(map(str, paths)), batch_size)
    for found in work(model, scan, [photographs], lambda count=1: None):
        state.merge(found)
    return state


@pytest.mark.parametrize("batch_size", [1, 4, 21, 64])
def test_finds_what_a_plain_forward_pass_gives(model, photos, batch_size):
    names = ["first", "block", "score"]
    # Below zero, so that a tensor which the in-place ReLU has overwritten would be seen.
    model.module.first.bias.data -= 3
    state = run(model, photos, names, batch_size)
    paths = list_images(photos)
    pictures = torch.stack([model.inputs.from_pil(open_image(path)) for path in paths])
    with torch.no_grad(), capture(model.module, names) as activations:
        scores = model(pictures)
    values = torch.cat(
        [
            activations[name][:, :, *model.layers[name].interior(model.inputs.size)].amax((2, 3))
            if name != "score"
            else activations[name]
            for name in names
        ],
        1,
    )
    # The duplicate photograph ties with its original up to the last digits, so images are compared by value.
    for ranking, sign in ((state.ranking.top(), 1), (state.ranking.bottom(), -1)):
        expected = (sign * values.T).sort(dim=1, descending=True).values[:, :4] * sign
        torch.testing.assert_close(ranking.values, expected)
        torch.testing.assert_close(values.T.gather(1, ranking.images), expected)
    rows = state.rows(21)
    found = torch.tensor(rows["prediction"], dtype=torch.float32)
    torch.testing.assert_close(found, scores.flatten())
    assert list(zip(rows["width"], rows["height"], strict=True)) == [open_image(path).size for path in paths]
    assert state.done == 21
    assert not state.errors
    assert (state.ranking.top().values[:7] < 0).all()


def test_the_model_is_left_as_it_was(model, photos):
    model.module.train()
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    run(model, photos, ["first", "block"], 8)
    assert all(part.training and not part._forward_hooks for part in model.module.modules())
    assert all(parameter.requires_grad for parameter in model.module.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.module.state_dict().items())


def test_activation_that_is_not_finite_names_unit_and_photograph(model, photos):
    with torch.no_grad():
        model.module.block.conv.bias[3] = torch.nan
    with pytest.raises(ModelError, match=r"block.conv:3 gave no finite activation for .*00\.png"):
        run(model, photos, ["first", "block.conv"], 8)


def test_layer_that_does_not_run_is_an_error(model):
    maxima = Maxima([model.layers["first"]], model.inputs.size, 2, torch.device("cpu"))
    maxima.values.fill_(torch.nan)
    with pytest.raises(ModelError, match="did not run"):
        maxima.check([Path("a.png")])


def test_output_that_is_no_score_is_an_error(model, photos):
    model.module.score = torch.nn.Linear(7, 2)
    with pytest.raises(ModelError, match="one number"):
        run(model, photos, ["first"], 8)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_spatial_maximum_inside(layout):
    generator = torch.Generator().manual_seed(0)
    maps = torch.randint(-3, 3, (4, 6, 5, 7), generator=generator).float().to(memory_format=layout)
    values, positions = spatial_maximum(maps, (slice(1, 4), slice(2, 6)))
    for row in range(4):
        for unit in range(6):
            places = [(y, x) for y in range(1, 4) for x in range(2, 6)]
            best = max(places, key=lambda place: maps[row, unit, *place].item())
            assert values[row, unit] == maps[row, unit, *best]
            assert positions[row, unit] == best[0] * 7 + best[1]


@pytest.mark.parametrize("cuts", [(7, 14), (1, 20), (4, 5, 6)])
@pytest.mark.parametrize("k", [3, 30])
def test_shards_merge_to_the_single_pass_in_any_order(model, photos, tmp_path, cuts, k):
    names = ["first", "block", "score"]
    (photos / "03.png").write_text("no picture")
    whole = run(model, photos, names, 1, state=empty(model, names, k))
    ends = [0, *cuts, 21]
    shards = []
    for start, stop in pairwise(ends):
        shard = run(model, photos, names, 1, range(start, stop), empty(model, names, k))
        shard.save(tmp_path / f"{start}.pt")
        shards.append(ScanState.load(tmp_path / f"{start}.pt"))
    random.Random(0).shuffle(shards)
    merged, *others = shards
    for shard in others:
        merged.merge(shard)
    for side in ("top", "bottom"):
        for one, other in zip(getattr(whole.ranking, side)(), getattr(merged.ranking, side)(), strict=True):
            assert torch.equal(one, other)
    torch.testing.assert_close(merged.ranking.mean(), whole.ranking.mean(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(merged.ranking.std(), whole.ranking.std(), rtol=1e-12, atol=1e-12)
    assert (merged.ranges, merged.errors.keys()) == (whole.ranges, whole.errors.keys()) == ([(0, 21)], {2})
    for one, other in zip(merged.rows(21).values(), whole.rows(21).values(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_photographs_are_not_counted_twice(model, photos):
    one, other = (run(model, photos, ["first"], 4, part) for part in (range(12), range(8, 21)))
    before = one.ranking.count
    with pytest.raises(StoreError, match="Photographs 8 to 11 were scanned twice"):
        one.merge(other)
    assert (one.ranking.count, one.ranges) == (before, [(0, 12)])


def test_autocast_of_the_caller_changes_nothing(model, photos):
    plain = run(model, photos, ["first"], 8).ranking.top()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(run(model, photos, ["first"], 8).ranking.top().values, plain.values)
