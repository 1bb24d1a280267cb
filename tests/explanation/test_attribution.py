import additive
import pytest
import tiny
import torch
from captum.attr import LayerConductance
from torch import nn

import memviz
from memviz.errors import ImageError, LayerError, ModelError
from memviz.explanation import attribute
from memviz.layers import private_copy
from memviz.models import InputSpec, ScoreSpec

SIZE = InputSpec(size=(12, 12))


def scored(name):
    return memviz.wrap(tiny.Scored(tiny.built(name)).eval(), SIZE, name, "memorability")


def trapezoid(network, address, picture, references, steps):
    """Captum takes the gradient at the left of each step: walked in both directions it gives the trapezoidal rule."""
    conductance = LayerConductance(network, network.get_submodule(address))
    parts = []
    for reference in references:
        there, back = (
            conductance.attribute(
                one[None].clone(), two[None].clone(), n_steps=steps, method="riemann_trapezoid"
            ).detach()
            for one, two in ((picture, reference), (reference, picture))
        )
        parts.append((there - back)[0] / 2)
    mean = torch.stack(parts).mean(0)
    return mean.flatten(1).sum(1) if mean.dim() > 1 else mean


def assert_near(found, expected, share=1e-3):
    assert (found - expected).abs().max() <= share * expected.abs().max()


def test_a_linear_model_is_exact():
    linear = nn.Linear(48, 1)
    model = memviz.wrap(nn.Sequential(nn.Flatten(), linear, nn.Sigmoid()), additive.INPUTS, "linear", "memorability")
    pictures, references = tiny.pictures(2, 4), tiny.pictures(3, 4, seed=1)
    found = attribute(model, pictures, references, [], steps=1)
    expected = linear.weight.detach().view(3, 4, 4) * (pictures - references.mean(0))
    torch.testing.assert_close(found.pixels, expected, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(found.maps, expected.sum(1), atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(found.logits.float(), linear(pictures.flatten(1))[:, 0].detach())
    torch.testing.assert_close(found.reference_logits.float(), linear(references.flatten(1))[:, 0].detach())
    assert found.scale == "logit"
    assert found.steps.tolist() == [1, 1]
    assert found.complete.all()


def test_branches_get_what_they_add():
    model = additive.wrapped(additive.Additive(2.0, -3.0, after=nn.Sigmoid()))
    pictures, references = tiny.pictures(2, 4), tiny.pictures(3, 4, seed=1)
    found = attribute(model, pictures, references, ["red", "green"])
    for channel, (address, weight) in enumerate((("red", 2.0), ("green", -3.0))):
        levels = pictures[:, channel].mean((1, 2)) - references[:, channel].mean()
        torch.testing.assert_close(found.units[address][:, 0].float(), weight * levels)
    assert found.pixels[:, 2].abs().max() == 0


def test_without_a_sigmoid_it_is_the_score_before_it_is_clipped():
    spec = ScoreSpec(mean=0.5, scale=4.0, shift=1.0, clip=(0.0, 0.1))
    model = additive.wrapped(additive.Additive(1.0, 1.0), score_spec=spec)
    pictures, references = tiny.pictures(1, 4), tiny.pictures(2, 4, seed=1)
    found = attribute(model, pictures, references, [])
    expected = 4 * (pictures[:, :2].mean((2, 3)).sum(1) - 0.5) + 1
    assert found.scale == "score"
    torch.testing.assert_close(found.logits.float(), expected)


@pytest.mark.parametrize(
    ("name", "addresses"),
    [
        ("Branches", ["left.0", "left.2", "right.0", "right.1", "right.1.conv1", "right.2", "head"]),
        ("SharedInput", ["stem", "left", "right"]),
        ("Discarded", ["stem", "right"]),
    ],
)
def test_all_layers_in_one_pass_as_captum_one_after_the_other(name, addresses):
    network = tiny.built(name)
    model = scored(name)
    picture, references = tiny.pictures(1), tiny.pictures(2, seed=1)
    found = attribute(
        model, picture, references, [f"network.{each}" for each in addresses], steps=50, max_steps=50, batch_size=7
    )

    class Logit(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = without_in_place(private_copy(network))

        def forward(self, pictures):
            return self.network(pictures).flatten(1).sum(1)

    for address in addresses:
        expected = trapezoid(Logit(), f"network.{address}", picture[0], references, 50)
        assert_near(found.units[f"network.{address}"][0].float(), expected)


def without_in_place(network):
    """Captum returns what an in-place operation left: each module gives it a copy instead."""
    for module in network.modules():
        if not list(module.children()):
            module.register_forward_hook(lambda module, inputs, output: output.clone())
    return network


@pytest.mark.parametrize("name", ["SharedInput", "Repeated", "Branches", "Constants"])
def test_sums_are_complete(name):
    found = attribute(scored(name), tiny.pictures(2), tiny.pictures(3, seed=1), [])
    difference = found.logits - found.reference_logits.mean()
    torch.testing.assert_close(found.pixels.double().sum((1, 2, 3)) - difference, found.residuals, atol=1e-5, rtol=0)
    assert found.complete.all()
    assert found.errors.max() <= 0.01


def test_a_layer_through_which_everything_goes_is_complete_too():
    # The last of three calls of `first`, and the layer after it.
    found = attribute(scored("Repeated"), tiny.pictures(2), tiny.pictures(3, seed=1), ["network.first", "network.last"])
    difference = found.logits - found.reference_logits.mean()
    for units in found.units.values():
        torch.testing.assert_close(units.sum(1), difference, rtol=0.01, atol=1e-4)


def test_steps_are_doubled_until_it_is_complete_or_the_truth_is_told(monkeypatch):
    monkeypatch.setattr("memviz.explanation.attribution.TOLERANCE", 1e-4)
    steep = nn.Sequential(nn.Flatten(), nn.Linear(48, 1), additive.Shift(0.0), Cubed())
    model = memviz.wrap(steep.eval(), additive.INPUTS, "steep", "memorability")
    pictures, references = tiny.pictures(1, 4) + 2, tiny.pictures(2, 4, seed=1)
    few = attribute(model, pictures, references, [], steps=1, max_steps=2)
    assert few.steps.tolist() == [2]
    assert not few.complete.any()
    assert few.errors.item() > 1e-4
    many = attribute(model, pictures, references, [], steps=1, max_steps=1024)
    assert many.complete.all()
    assert 2 < many.steps.item() < 1024


def test_each_pass_is_told_and_what_listens_may_end_the_work():
    model = scored("Repeated")
    told = []
    attribute(
        model, tiny.pictures(2), tiny.pictures(3, seed=1), [], steps=4, max_steps=4, batch_size=7, advance=told.append
    )
    assert told == [7, 7, 1] * 2

    class EnoughError(Exception):
        pass

    def end(count):
        raise EnoughError

    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    with pytest.raises(EnoughError):
        attribute(model, tiny.pictures(1), tiny.pictures(3, seed=1), ["network.first"], advance=end)
    assert all(torch.equal(before[name], value) for name, value in model.module.state_dict().items())
    assert not any(module._forward_hooks for module in model.module.modules())


class Cubed(nn.Module):
    def forward(self, numbers):
        return numbers**3


def test_photographs_references_and_batches_are_independent():
    model = scored("Branches")
    pictures, references = tiny.pictures(2), tiny.pictures(3, seed=1)
    whole = attribute(model, pictures, references, steps=4, max_steps=4)
    by_one = attribute(model, pictures[1:], references, steps=4, max_steps=4, batch_size=1)
    by_reference = [attribute(model, pictures, each[None], steps=4, max_steps=4) for each in references]
    torch.testing.assert_close(whole.pixels[1:], by_one.pixels, atol=1e-6, rtol=1e-3)
    for address, units in whole.units.items():
        torch.testing.assert_close(units[1:], by_one.units[address], atol=1e-6, rtol=1e-3)
        mean = torch.stack([each.units[address] for each in by_reference]).mean(0)
        torch.testing.assert_close(units, mean, atol=1e-6, rtol=1e-3)


class Aside(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.aside = nn.Conv2d(3, 2, 3), nn.Conv2d(3, 5, 3)

    def forward(self, pictures):
        self.aside(pictures)
        return self.used(pictures).mean((1, 2, 3))[:, None]


def test_a_layer_off_the_path_has_zeros():
    model = memviz.wrap(Aside().eval(), SIZE, "aside", "memorability")
    found = attribute(model, tiny.pictures(1), tiny.pictures(2, seed=1))
    assert found.units["aside"].tolist() == [[0.0] * 5]
    assert found.units["used"].abs().min() > 0


def test_nothing_of_the_caller_is_changed():
    model = scored("SharedInput")
    before = {name: each.clone() for name, each in model.module.state_dict().items()}
    pictures, references = tiny.pictures(1), tiny.pictures(2, seed=1)
    plain = attribute(model, pictures, references)
    state = torch.get_rng_state()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        inside = attribute(model, pictures.clone(), references.clone())
    with torch.no_grad():
        attribute(model, pictures, references, [])
    assert torch.equal(state, torch.get_rng_state())
    torch.testing.assert_close(inside.pixels, plain.pixels)
    for name, each in model.module.state_dict().items():
        assert torch.equal(each, before[name])
    assert all(each.requires_grad and each.grad is None for each in model.module.parameters())
    assert not any(each._forward_hooks for each in model.module.modules())


def test_bad_input_says_what_is_valid():
    model = scored("Branches")
    good = tiny.pictures(1)
    with pytest.raises(ImageError, match=r"references of shape \(1, 3, 5, 5\)"):
        attribute(model, good, tiny.pictures(1, 5))
    with pytest.raises(ImageError, match="photographs of shape"):
        attribute(model, good[:0], good)
    with pytest.raises(ImageError, match="nan"):
        attribute(model, good * float("nan"), good)
    with pytest.raises(LayerError, match=r"no layer 'network\.lefd'"):
        attribute(model, good, good, ["network.lefd"])
    with pytest.raises(ModelError, match="steps=0"):
        attribute(model, good, good, steps=0)
    with pytest.raises(ModelError, match="one number a picture"):
        attribute(memviz.wrap(tiny.built("InPlace"), SIZE), good, good)
    with pytest.raises(ModelError, match="modified by an inplace operation"):
        attribute(scored("InPlace"), good, good)
    detached = memviz.wrap(nn.Sequential(nn.Flatten(), Detached()).eval(), SIZE, target="memorability")
    with pytest.raises(ModelError, match="no gradient"):
        attribute(detached, good, good, [])


class Detached(nn.Module):
    def forward(self, numbers):
        return numbers.detach().sum(1, keepdim=True)


def test_published_resmem_as_captum(resmem, originals):
    from memviz.images import open_image

    picture, reference = (
        resmem.inputs.from_pil(open_image(originals[name])) for name in ("astronaut.png", "coffee.png")
    )
    # Late layers: in single precision a ReLU at almost 0 may open in one of the two alone, by which
    # layer3.20 differed by 1.3e-3 of the largest; in double precision no layer differed by more than 1e-14.
    addresses = ["resnet.layer4.2", "head.fc9"]
    found = attribute(resmem, picture[None], reference[None], addresses, steps=1, max_steps=1)
    network = private_copy(resmem.module)
    network.head.sigmoid = nn.Identity()
    for address in addresses:
        expected = trapezoid(network, address, picture, reference[None], 1)
        assert_near(found.units[address][0].float(), expected)
