from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from drawing import render
from helpers import unchanged, undisturbed
from tiny import Viewed
from torch import nn

import memviz
from memviz.errors import LayerError, RenderError
from memviz.rendering import Fourier, Pixel, RandomTransforms, RenderConfig
from memviz.rendering import engine as engines
from memviz.rendering.engine import Engine, seed_of
from memviz.rendering.measure import as_photograph
from memviz.rendering.objectives import Channel, Direction, Lucent, Neuron, Score

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
            row = replace(small.layers["body.3"], height=maps.shape[2], width=maps.shape[3])
            within = maps[:, :, *row.interior((20, 20))]
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


# A picture depends on its own seed alone.


def draw(model, units, **options):
    return render(model, "body.3", units, size=24, steps=40, **options)


def test_a_picture_does_not_depend_on_its_companions(small):
    alone = {unit: draw(small, unit).images[0] for unit in range(5)}
    for options in (
        {"units": [0, 1, 2, 3, 4]},
        {"units": [4, 2, 0]},
        {"units": [3, 1], "batch_size": 2},
        {"units": [0, 1, 2, 3, 4], "batch_size": 1},
        {"units": [4, 3, 2, 1, 0], "batch_size": 2},
    ):
        images, table = draw(small, **options)
        assert table["unit"].tolist() == options["units"]
        for unit, image in zip(options["units"], images, strict=True):
            torch.testing.assert_close(image, alone[unit], **SAME)
    assert min((alone[a] - alone[b]).abs().max() for a in alone for b in alone if a < b) > 0.1


def test_a_blocked_picture_does_not_depend_on_its_companions(half_dead):
    """Also beside lucent's objectives, and beside units that live."""
    options = {"size": 16, "steps": 40, "learning_rate": 0.5}
    lucent = Lucent(lambda model: -model("2")[:, 0].mean())
    alone = render(half_dead, objective=Channel("2", 1), **options)
    for companions in ([Channel("2", 0)], [Channel("2", 2)], [lucent], [Lucent(lucent.objective, 2), Channel("2", 3)]):
        together = render(half_dead, objective=[*companions, Channel("2", 1)], **options)
        assert together.table["state"].iloc[-1] == alone.table["state"].item() == "redirected"
        torch.testing.assert_close(together.images[-1], alone.images[0], **SAME)


def test_a_picture_depends_on_its_seed_and_only_on_it(small):
    first, again, other = (draw(small, 2, seed=seed).images for seed in (0, 0, 7))
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 0.05
    torch.manual_seed(123)
    np.random.seed(123)
    assert torch.equal(draw(small, 2).images, first)


def test_seeds_tell_units_layers_and_seeds_apart():
    seeds = [
        seed_of(seed, str(o)) for seed in (0, 1) for o in (Channel("a", 0), Channel("a", 1), Channel("b", 0), -Score())
    ]
    assert len(set(seeds)) == 8
    assert all(0 <= seed < 2**63 for seed in seeds)
    # Pictures in published manifests stay reproducible.
    assert seed_of(0, "alexnet.conv4:5") == 3596905581589546463


def test_a_picture_does_not_depend_on_the_scale_of_its_unit(wrapped):
    """Published networks have units with weights of 1e-7, which must not stay grey."""
    module = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, bias=False))
    filters = torch.randn(1, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    model = wrapped(module, weights={"0.weight": torch.cat([filters, 1e-8 * filters, 1e6 * filters])})
    images, table = render(
        model, "0", size=16, steps=60, transforms=None, parameterization=Pixel(sd=0), learning_rate=0.1
    )
    assert table["state"].tolist() == ["ok"] * 3
    assert (images[0] - 0.5).abs().max() > 0.3
    torch.testing.assert_close(images[1], images[0], rtol=0, atol=1e-3)
    torch.testing.assert_close(images[2], images[0], rtol=0, atol=1e-3)


# What no gradient reaches.


def test_states(half_dead):
    images, table = render(half_dead, "2", size=16, steps=60, learning_rate=0.5, refinement=None)
    assert table["state"].tolist() == ["ok", "redirected", "dead", "dead"]
    activation = table["value"].tolist()
    assert activation[0] > 1
    assert activation[1] > 0.05
    assert activation[2:] == [0.0, 0.0]
    red, _, blue = images[1].mean((1, 2))
    assert red > blue + 0.1


def test_no_grey_square_passes_as_a_picture(half_dead):
    for objective in ("excitation", "channel", "neuron"):
        images, table = render(half_dead, "2", objective=objective, size=16, steps=60, learning_rate=0.5)
        drawn = images[[state != "dead" for state in table["state"]]]
        assert len(drawn) >= 2
        assert ((drawn - 128 / 255).abs().amax((1, 2, 3)) > 0.1).all()


def test_a_functional_relu_is_redirected_too(half_dead, wrapped):
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([half_dead.module[0], half_dead.module[2]])

        def forward(self, x):
            return self.layers[1](F.relu(self.layers[0](x)))

    model = memviz.wrap(Functional(), half_dead.inputs)
    table = render(model, "layers.1", size=16, steps=60, learning_rate=0.5).table
    assert table["state"].tolist() == ["ok", "redirected", "dead", "dead"]


def test_lucents_objective_is_retried_as_well(half_dead):
    def blocked(unit):
        return Lucent(lambda model: -model("2")[:, unit].mean(), images=2)

    table = render(
        half_dead, objective=[blocked(0), blocked(1), blocked(2)], size=16, steps=60, learning_rate=0.5
    ).table
    assert table["state"].tolist() == ["ok", "ok", "redirected", "redirected", "dead", "dead"]


def test_few_steps_find_the_dead_as_well(half_dead):
    for steps in (1, 2, 15, 17):
        table = render(half_dead, "2", size=16, steps=steps).table
        assert table["state"].tolist()[0] == "ok"
        assert table["state"].tolist()[2:] == ["dead", "dead"]


def test_progress_counts_every_step_once(half_dead):
    """Whether drawn, retried, or given up early."""
    objectives = [Channel("2", unit) for unit in range(4)]
    for chosen in (objectives, objectives[2:]):
        done = []
        Engine(half_dead, chosen, RenderConfig(size=8, steps=40)).draw(
            chosen, lambda count=1, done=done: done.append(count)
        )
        assert sum(done) == 40 * len(chosen)


# What runs.


def test_only_what_the_layers_need_runs(small):
    engine = Engine(small, [Channel("stem.0", 0)], RenderConfig(size=8))
    assert {name for name, _ in engine._network.network.named_modules()} == {"", "stem", "stem.0"}
    # So a picture may be smaller than the rest of the network takes.
    assert render(small, "stem.0", 0, size=1, steps=1).images.shape == (1, 3, 1, 1)


def test_batch_norms_are_folded_and_change_nothing(small):
    engine = Engine(small, [Channel("body.3", 0)], RenderConfig(size=16))
    assert not any(isinstance(part, nn.BatchNorm2d) for part in engine._network.modules())
    pictures = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = small.module.body(small.module.stem(pictures))
    torch.testing.assert_close(engine._forward(pictures)["body.3"], expected, rtol=1e-4, atol=1e-5)


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


def testfree_memory_is_a_number_of_bytes():
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


# What stays as it was.


@pytest.mark.parametrize("training", [True, False])
def test_the_callers_model_and_globals_stay(small, training):
    hooked = []
    small.module.train(training)
    small.module.stem.register_forward_hook(lambda *_: hooked.append(1))
    with unchanged(small.module), undisturbed():
        first = render(small, "body.3", [0, 1], size=16, steps=3).images
        render(small, objective=[Score(), Lucent(lambda model: model("stem_0").mean())], steps=3)
    ran = len(hooked)  # only where the layers are found does the caller's own network run
    assert torch.equal(render(small, "body.3", [0, 1], size=16, steps=3).images, first)
    assert len(hooked) == ran


def test_the_callers_model_and_globals_stay_after_an_exception(small, half_dead):
    small.layers, half_dead.layers  # noqa: B018

    def broken(model):
        model("stem_0")
        raise ZeroDivisionError

    def interrupted(count=1):
        raise KeyboardInterrupt

    engine = Engine(half_dead, [Channel("2", 1)], RenderConfig(size=8, steps=20))
    with unchanged(small.module, half_dead.module), undisturbed():
        with pytest.raises(ZeroDivisionError):
            render(small, objective=Lucent(broken), size=16, steps=3)
        with pytest.raises(RenderError):
            render(small, "body.3", size=16, steps=40, learning_rate=1e38)
        with pytest.raises(KeyboardInterrupt):
            engine.draw([Channel("2", 1)], interrupted)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_any_grad_mode_of_the_caller(small, mode):
    expected = render(small, "body.3", 0, size=16, steps=5).images
    with mode(), undisturbed():
        images = render(small, "body.3", 0, size=16, steps=5).images
    assert torch.equal(images, expected)
    assert not images.requires_grad


def test_any_default_type_and_device_of_the_caller(small):
    expected = render(small, objective=[Channel("body.3", 0), Direction("body.3", range(5))], size=16, steps=5)
    for change, undo in (
        (lambda: torch.set_default_dtype(torch.float64), lambda: torch.set_default_dtype(torch.float32)),
        (lambda: torch.set_default_device("meta"), lambda: torch.set_default_device(None)),
    ):
        change()
        try:
            with undisturbed():
                found = render(small, objective=[Channel("body.3", 0), Direction("body.3", range(5))], size=16, steps=5)
        finally:
            undo()
        assert found.images.dtype == torch.float32
        assert torch.equal(found.images, expected.images)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_any_type_of_weights(small, dtype):
    small.module.to(dtype)
    images, table = render(small, "body.3", [0, 1], size=16, steps=5)
    assert images.dtype == torch.float32
    assert table["state"].tolist() == ["ok", "ok"]
    assert all(p.dtype == dtype for p in small.module.parameters())


def test_the_score_of_the_published_network(resmem):
    """The real thing, at its own size: a picture that it holds for memorable, and one that it does not."""
    images, _ = render(resmem, objective=[Score(), -Score()], steps=6)
    assert images.shape == (2, 3, 227, 227)
    with torch.no_grad():
        most, least = resmem(images).flatten().tolist()
    assert most > least + 0.05
