import pytest
import torch
from drawing import render
from helpers import unchanged, undisturbed

from memviz.errors import RenderError
from memviz.rendering import Pixel, RenderConfig
from memviz.rendering.engine import Engine
from memviz.rendering.objectives import Channel, Direction, Lucent, Score

# Measured on the CPU: pictures of `small` from batches of different sizes differ by up to 2.4e-7 after 40 steps. In
# deep networks rounding grows: up to 0.12 in single pixels of ResNet-152's layer2.3 (mean 0.02) after 128 steps
# alone against in a batch, with activations equal to 0.3 %.
SAME = {"rtol": 0, "atol": 1e-4}
PLAIN = {"parameterization": Pixel(decorrelated=False), "transforms": None, "learning_rate": 0.2, "refinement": None}


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
