import pytest
import torch

from memviz.errors import ModelError
from memviz.images import list_images, open_image
from memviz.index.scan import Maxima, ScanState, scan, spatial_maximum
from memviz.index.topk import TopK
from memviz.layers import capture


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


def run(model, photos, names, batch_size, findings=None):
    layers = [model.layers[name] for name in names]
    findings = findings or ScanState(TopK(sum(layer.channels for layer in layers), 4))
    scan(model, layers, list_images(photos), findings, lambda: None, lambda count=1: None, batch_size, workers=2)
    return findings


@pytest.mark.parametrize("batch_size", [1, 4, 21, 64])
def test_finds_what_a_plain_forward_pass_gives(model, photos, batch_size):
    names = ["first", "block", "score"]
    # Below zero, so that a tensor which the in-place ReLU has overwritten would be seen.
    model.module.first.bias.data -= 3
    findings = run(model, photos, names, batch_size)
    paths = list_images(photos)
    pictures = torch.stack([model.inputs.from_pil(open_image(path)) for path in paths])
    with torch.no_grad(), capture(model.module, names) as activations:
        scores = model(pictures)
    values = torch.cat(
        [activations[name].flatten(2).amax(2) if name != "score" else activations[name] for name in names], 1
    )
    # The duplicate photograph ties with its original up to the last digits, so images are compared by value.
    for ranking, sign in ((findings.state.top(), 1), (findings.state.bottom(), -1)):
        expected = (sign * values.T).sort(dim=1, descending=True).values[:, :4] * sign
        torch.testing.assert_close(ranking.values, expected)
        torch.testing.assert_close(values.T.gather(1, ranking.images), expected)
    found = torch.tensor([findings.predictions[image] for image in range(21)])
    torch.testing.assert_close(found, scores.flatten())
    assert findings.sizes == {number: open_image(path).size for number, path in enumerate(paths)}
    assert findings.done == 21
    assert not findings.errors
    assert (findings.state.top().values[:7] < 0).all()


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
    maxima = Maxima([model.layers["first"]], 2, torch.device("cpu"))
    maxima.values.fill_(torch.nan)
    with pytest.raises(ModelError, match="did not run"):
        maxima.check(["a.png"])


def test_output_that_is_no_score_is_an_error(model, photos):
    model.module.score = torch.nn.Linear(7, 2)
    with pytest.raises(ModelError, match="one number"):
        run(model, photos, ["first"], 8)
