import numpy as np
import pytest
import torch
import torch.nn.functional as F
from drawing import render
from helpers import unchanged
from tiny import Viewed
from torch import nn

import memviz
from memviz.errors import LayerError, RenderError
from memviz.rendering import Fourier, Pixel, RandomTransforms, RenderConfig
from memviz.rendering import engine as engines
from memviz.rendering.engine import Engine
from memviz.rendering.measure import as_photograph
from memviz.rendering.objectives import Channel, Direction, Lucent, Neuron, Score
from memviz.rendering.prepared import Prepared

# Measured on the CPU: pictures of `small` from batches of different sizes differ by up to 2.4e-7 after 40 steps. In
# deep networks rounding grows: up to 0.12 in single pixels of ResNet-152's layer2.3 (mean 0.02) after 128 steps
# alone against in a batch, with activations equal to 0.3 %.
SAME = {"rtol": 0, "atol": 1e-4}
PLAIN = {"parameterization": Pixel(decorrelated=False), "transforms": None, "learning_rate": 0.2, "refinement": None}


def cosine(a, b):
    return float(F.cosine_similarity(a.flatten(), b.flatten(), dim=0))


# What is drawn is what maximizes the objective.


@pytest.mark.parametrize(
    ("parameterization", "near"),
    [
        (Pixel(decorrelated=False), 0.05),
        (Fourier(decorrelated=False), 0.12),
        # Decorrelated colours leave grey slowly where it takes the weak third plane.
        (Pixel(), 0.45),
        (Fourier(), 0.45),
    ],
)
def test_a_1x1_convolution_gets_its_colour(wrapped, parameterization, near):
    """w.c is largest at the corner of the colour cube to which w points."""
    colours = torch.tensor([[1.0, -1.0, 1.0], [-1.0, 1.0, 1.0], [0.5, 2.0, -0.7], [-1.0, -1.0, -1.0]])
    model = wrapped(nn.Sequential(nn.Conv2d(3, 4, 1)), weights={"0.weight": colours, "0.bias": [0.0, 3.0, 0.0, 0.0]})
    images, table = render(
        model, "0", size=32, steps=150, parameterization=parameterization, transforms=None, learning_rate=0.5
    )
    corners = (colours > 0).float()
    assert (images.mean((2, 3)) - corners).abs().max() < near
    reached = (colours * images.mean((2, 3))).sum(1) + torch.tensor([0.0, 3.0, 0.0, 0.0])
    np.testing.assert_allclose(table["mean"], reached, atol=1e-4)
    assert table["state"].tolist() == ["ok"] * 4


def test_a_network_that_flattens_by_view_is_drawn_past_it(wrapped):
    model = wrapped(Viewed(16), size=16)
    with unchanged(model.module):
        images, table = render(model, "fc", steps=20)
    with torch.no_grad():
        assert table["peak"].item() == pytest.approx(model.module(images).item(), abs=1e-4)
        assert table["peak"].item() > model.module(torch.full((1, 3, 16, 16), 0.5)).item()


def test_a_linear_filter_gets_itself(wrapped):
    """The optimum of a linear unit at one place is its filter, where it looks, and nothing around."""
    filters = torch.randn(3, 3, 7, 7, generator=torch.Generator().manual_seed(3)).sign()
    model = wrapped(nn.Sequential(nn.Conv2d(3, 3, 7, padding=3, bias=False)), weights={"0.weight": filters})
    images, _ = render(model, "0", objective="neuron", size=21, steps=20, **PLAIN)
    for image, expected in zip(images, filters, strict=True):
        window = image[:, 7:14, 7:14]
        assert cosine(window - 0.5, expected) > 0.99
        around = image.clone()
        around[:, 7:14, 7:14] = 0.5
        assert (around - 0.5).abs().max() < 0.02
    assert cosine(images[0] - 0.5, images[1] - 0.5) < 0.5


def test_a_smooth_filter_gets_itself_from_frequencies_under_transforms(wrapped):
    """A Gabor filter, drawn as users draw: Fourier, decorrelated colours, jitter, rotation and scale."""
    y, x = torch.meshgrid(torch.arange(-7.0, 8), torch.arange(-7.0, 8), indexing="ij")
    gabor = torch.cos(x * 2 * torch.pi / 7) * torch.exp(-(x**2 + y**2) / 30)
    filters = (gabor - gabor.mean()).expand(1, 3, 15, 15)
    model = wrapped(nn.Sequential(nn.Conv2d(3, 1, 15, padding=7, bias=False)), weights={"0.weight": filters})
    images, _ = render(model, "0", objective="neuron", size=31, steps=100, transforms=RandomTransforms(1, 5, 0.05))
    window = images[0, :, 8:23, 8:23]
    assert cosine(window - window.mean(), filters[0]) > 0.65


def test_a_direction_gets_its_colour(wrapped):
    identity = wrapped(nn.Sequential(nn.Conv2d(3, 3, 1, bias=False)), weights={"0.weight": torch.eye(3)})
    images, table = render(identity, objective=Direction("0", [3, -4, 0]), size=8, steps=80, **PLAIN)
    red, green, blue = images[0]
    assert red.min() > 0.9
    assert green.max() < 0.1
    assert (blue - 0.5).abs().max() < 0.02
    # (0.6, -0.8, 0) times (1, 0, ...)
    assert table["value"].item() == pytest.approx(0.6, abs=0.1)


def test_the_score_rises_and_its_negation_falls(small):
    grey = float(small.module(torch.full((1, 3, 32, 32), 0.5)).detach())
    images, table = render(small, objective=[Score(), -Score()], steps=30)
    most, least = small.module(images).flatten().tolist()
    assert least < grey - 0.01
    assert most > grey + 0.01
    np.testing.assert_allclose(table["value"], [most, -least], atol=1e-5)
    assert images.shape == (2, 3, 32, 32)


def test_an_edge_filter_gets_an_edge(wrapped):
    """Over any edge the plain mean of its answers cancels; excitation finds bars, and answers far above grey's."""
    filters = torch.cat([torch.ones(2), torch.zeros(1), -torch.ones(2)]).expand(1, 3, 5, 5)
    model = wrapped(nn.Sequential(nn.Conv2d(3, 1, 5, padding=2, bias=False)), weights={"0.weight": filters})
    images, _ = render(model, "0", size=24, steps=80, refinement=None)
    across, along = (images.diff(dim=axis).abs().mean() for axis in (3, 2))
    assert across > 1.5 * along
    assert render(model, "0", size=24, steps=80).table["peak"].item() > 0.85 * 30  # of what black beside white gives


def test_value_mean_and_peak_are_what_the_picture_gives(small):
    """The value at the picture's own size; mean and peak at the network's, over the interior."""
    for objective in ("excitation", "channel", "neuron"):
        renders = render(small, "body.3", objective=objective, size=20, steps=5)
        images, table = renders
        with torch.no_grad():
            maps = small.module.body(small.module.stem(images))
            pictures = (images * 255).round().to(torch.uint8)
            inputs = torch.stack([small.inputs.from_pil(as_photograph(each, small.inputs)) for each in pictures])
            inside = small.module.body(small.module.stem(inputs))[:, :, *small.layers["body.3"].interior((32, 32))]
            within = maps[:, :, *small.layers["body.3"].interior((20, 20), maps.shape[2:])]
        halved = torch.where(within > 0, within, within / 2).mean((2, 3)).diag()
        value = {"excitation": halved, "channel": maps.mean((2, 3)).diag(), "neuron": maps[:, :, 5, 5].diag()}
        np.testing.assert_allclose(table["value"], value[objective], atol=1e-5)
        np.testing.assert_allclose(table["mean"], inside.mean((2, 3)).diag(), atol=1e-5)
        np.testing.assert_allclose(table["peak"], inside.amax((2, 3)).diag(), atol=1e-5)


def test_of_a_multiple_mean_and_peak_are_the_units(small):
    renders = render(small, objective=[-2 * Channel("body.3", 1)], size=20, steps=5)
    with torch.no_grad():
        maps = small.module.body(small.module.stem(renders.images))[0, 1]
    (record,) = renders.records
    assert record.unit == 1
    assert record.value == pytest.approx(-2 * maps.mean().item(), abs=1e-5)
    assert record.mean < 0 or record.peak < 1


def test_more_steps_reach_more(small):
    reached = [render(small, "body.3", size=20, steps=steps).table["value"].mean() for steps in (1, 10, 60)]
    assert reached == sorted(reached)
    assert reached[2] > reached[0] + 0.1


def test_every_input_description_is_applied(wrapped):
    """BGR with scale and mean: the unit that weighs the first channel wants blue, and sees 255 b - 100."""
    model = wrapped(nn.Sequential(nn.Conv2d(3, 1, 1)), weights={"0.weight": [1.0, 0.0, 0.0], "0.bias": [0.0]})
    model.inputs = memviz.InputSpec(size=(32, 32), channels="bgr", scale=255.0, mean=(100.0, 0.0, 0.0))
    images, table = render(model, "0", size=8, steps=60, **PLAIN)
    assert images[0, 2].min() > 0.9
    assert (images[0, :2] - 0.5).abs().max() < 0.02
    assert table["value"].item() == pytest.approx(255 * images[0, 2].mean().item() - 100, abs=0.01)


# What runs.


def test_only_what_the_layers_need_runs(small):
    engine = Engine(small, [Channel("stem.0", 0)], RenderConfig(size=8))
    assert {name for name, _ in engine._network.plain.network.named_modules()} == {"", "stem", "stem.0"}
    # So a picture may be smaller than the rest of the network takes.
    assert render(small, "stem.0", 0, size=1, steps=1).images.shape == (1, 3, 1, 1)


def test_batch_norms_are_folded_and_change_nothing(small):
    engine = Engine(small, [Channel("body.3", 0)], RenderConfig(size=16))
    assert not any(isinstance(part, nn.BatchNorm2d) for part in engine._network.plain.modules())
    pictures = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = small.module.body(small.module.stem(pictures))
    torch.testing.assert_close(engine._network(pictures)["body.3"], expected, rtol=1e-4, atol=1e-5)


def test_a_network_that_cannot_be_traced_is_drawn(wrapped):
    class Untraceable(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x):
            x = self.relu(self.conv(x))
            return x if x.detach().sum() > 1e9 else -x

    images, table = render(wrapped(Untraceable()), "conv", size=16, steps=20)
    assert table["state"].tolist() == ["ok"] * 4
    assert (images - 0.5).abs().amax((1, 2, 3)).min() > 0.05


def test_units_of_a_vector(small):
    images, table = render(small, "head.2", steps=5)
    assert images.shape[2:] == small.inputs.size
    with torch.no_grad():
        expected = small.module(images).item()
    assert table["mean"].item() == table["peak"].item() == pytest.approx(expected, abs=1e-5)
    assert table["value"].item() == pytest.approx(max(expected, expected / 2), abs=1e-5)


@pytest.mark.parametrize(("free", "expected"), [(1, [1] * 5), (10**12, [5])])
def test_chunks_fit_into_memory(small, monkeypatch, free, expected):
    monkeypatch.setattr(engines, "free_memory", lambda device: free)
    objectives = [Channel("body.3", unit) for unit in range(5)]
    engine = Engine(small, objectives, RenderConfig(size=16, steps=1))
    assert [len(chunk) for chunk in engine.chunks(objectives)] == expected


def test_memory_is_estimated_by_what_autograd_keeps(small, monkeypatch):
    """Twice the side takes four times the memory, and three pictures' worth gives chunks of three."""
    objectives = [Channel("body.3", unit) for unit in range(5)]
    engines_ = {size: Engine(small, objectives, RenderConfig(size=size)) for size in (32, 64)}
    measured = {size: engine._bytes_per_image for size, engine in engines_.items()}
    assert measured[64] / measured[32] == pytest.approx(4, rel=0.1)
    assert measured[32] >= 4 * (6 * 16 * 16 + 8 * 16 * 16)  # what the ReLUs give
    monkeypatch.setattr(engines, "free_memory", lambda device: 3.5 * 2 * measured[32])
    assert [len(chunk) for chunk in engines_[32].chunks(objectives)] == [3, 2]


def test_chunks_keep_pictures_of_one_objective_together(small):
    loss = Lucent(lambda model: model("stem.0").mean(), images=3)
    objectives = [Channel("stem.0", 0), loss, Channel("stem.0", 1), Lucent(loss.objective, images=9), Score()]
    engine = Engine(small, objectives, RenderConfig(size=16, batch_size=4))
    assert [[o.images for o in chunk] for chunk in engine.chunks(objectives)] == [[1], [3], [1], [9], [1]]


def test_pictures_are_drawn_with_those_of_their_own_pace(wrapped):
    """So that none depends on its companions; what wants several layers goes by the slowest."""
    model = wrapped(nn.Sequential(nn.Conv2d(3, 2, 7), nn.Conv2d(2, 2, 84), nn.Conv2d(2, 2, 9)), size=112)
    fine, middle, coarse = (Channel(str(place), 0) for place in range(3))
    objectives = [fine, fine, middle, fine + coarse, coarse, Score()]
    engine = Engine(model, objectives[:-1], RenderConfig(size=100))
    assert [len(chunk) for chunk in engine.chunks(objectives[:-1])] == [2, 3]
    assert engine._pace(fine) > engine._pace(middle) == engine._pace(fine + coarse) == engine._pace(Score()) == 1


def test_free_memory_is_a_number_of_bytes():
    assert 2**20 < engines.free_memory(torch.device("cpu")) < 2**50


# What does not work.


@pytest.mark.parametrize("objective", [Score(), Lucent(lambda model: model("labels").mean())])
def test_a_size_on_which_the_network_does_not_run(wrapped, objective):
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(2 * 30 * 30, 1))
    model = wrapped(module, name="flat")
    assert render(model, objective=objective, size=32, steps=2).images.shape == (1, 3, 32, 32)
    with pytest.raises(RenderError, match=r"flat does not run .* 16x16 px.*32x32"):
        render(model, objective=objective, size=16, steps=2)
    with pytest.raises(RenderError, match=r"2x2 px"):
        render(model, objective=Channel("0", 0), size=2, steps=2)


def test_weights_that_are_not_finite(wrapped):
    module = nn.Sequential(nn.Conv2d(3, 2, 3))
    model = wrapped(module)
    with torch.no_grad():
        module[0].weight[1] = float("nan")
    with pytest.raises(RenderError, match=r"not finite while drawing excitation\(0:1\)"):
        render(model, "0", 1, size=8, steps=2)


def test_a_position_outside_of_the_map(small):
    with pytest.raises(LayerError, match=r"\(15, 15\).*given was \(16, 0\)"):
        render(small, objective=Neuron("stem.0", 0, (16, 0)), size=32, steps=2)


def test_the_score_of_the_published_network(resmem):
    """The real thing, at its own size: a picture that it holds for memorable, and one that it does not."""
    images, _ = render(resmem, objective=[Score(), -Score()], steps=6)
    assert images.shape == (2, 3, 227, 227)
    with torch.no_grad():
        most, least = resmem(images).flatten().tolist()
    assert most > least + 0.05


def test_a_small_canvas_fills_the_picture(wrapped):
    """The manifest says what was drawn, and the picture is judged as any other."""
    model = wrapped(nn.Sequential(nn.Conv2d(3, 4, 7, stride=2)), size=96)
    images, table = render(model, "0", [0, 2], steps=12)
    assert images.shape == (2, 3, 128, 128)
    assert torch.equal(images[:, :, :64, :64], images[:, :, 64:, 64:])
    assert not torch.equal(images[:, :, :32], images[:, :, 32:64])
    assert render(model, "0", 0, steps=1).manifest.config["canvas"] == 64
    assert render(model, "0", 0, steps=1, objective="neuron").manifest.config["canvas"] is None
    with torch.no_grad():
        maps = model.module(model.inputs.from_tensor(images.repeat(1, 1, 2, 2)[:, :, :96, :96], resize=False))
    rows, columns = model.layers["0"].interior((96, 96))
    np.testing.assert_allclose(table["peak"], maps[[0, 1], [0, 2]][:, rows, columns].flatten(1).amax(1), rtol=1e-5)


def test_the_last_steps_are_the_same_on_the_repeated_picture_and_without_end(wrapped, monkeypatch):
    """Where the input holds the tile a whole number of times, the two have one mean."""
    model = wrapped(nn.Sequential(nn.Conv2d(3, 4, 4, stride=4)), size=64)
    settings = {"size": 32, "steps": 9, "objective": "channel"}
    endless = render(model, "0", 1, **settings).images
    monkeypatch.setattr(Prepared, "closes", False)
    torch.testing.assert_close(render(model, "0", 1, **settings).images, endless, rtol=0, atol=2 / 255)
