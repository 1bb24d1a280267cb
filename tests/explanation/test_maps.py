import additive
import pytest
import tiny
import torch
from captum.attr import LayerGradCam
from torch import nn

import memviz
from memviz.errors import ImageError, LayerError, ModelError
from memviz.explanation import METHODS, attribute, image_map
from memviz.explanation.maps import DEFAULT, ExpectedGradients, GradCam, IntegratedGradients, Occlusion, blurred
from memviz.layers import private_copy
from memviz.models import InputSpec

SIZE = InputSpec(size=(12, 12))


def scored(network, size=SIZE):
    return memviz.wrap(tiny.Scored(network).eval(), size, "tiny", "memorability")


@pytest.fixture
def linear():
    """A model whose logit is `(weights * picture).sum()`, and the weights."""
    layer = nn.Linear(3 * 12 * 12, 1)
    return scored(nn.Sequential(nn.Flatten(), layer)), layer.weight.detach().view(3, 12, 12)


def test_a_linear_model_is_exact(linear):
    model, weights = linear
    picture, references = tiny.pictures(1)[0], tiny.pictures(3, seed=1)
    own = image_map(model, picture, "expected-gradients", references)
    torch.testing.assert_close(own, (weights * (picture - references.mean(0))).sum(0))
    paths = image_map(model, picture, IntegratedGradients(samples=2, noise=0.0))
    torch.testing.assert_close(paths, (weights * (picture - blurred(picture))).sum(0))
    single = image_map(model, picture, Occlusion(window=1 / 12, stride=1 / 12))
    torch.testing.assert_close(single, (weights * (picture - blurred(picture))).sum(0), atol=1e-6, rtol=1e-4)


def test_windows_share_what_they_find(linear):
    model, weights = linear
    picture = tiny.pictures(1)[0]
    change = (weights * (picture - blurred(picture))).sum(0)
    # Windows of 4 px every 2 px: the corner's pixel lies in one, a pixel in the middle in four.
    found = image_map(model, picture, Occlusion(window=4 / 12, stride=2 / 12), batch_size=3)
    torch.testing.assert_close(found[0, 0], change[:4, :4].sum())
    four = [change[top : top + 4, left : left + 4].sum() for top in (2, 4) for left in (4, 6)]
    torch.testing.assert_close(found[5, 7], torch.stack(four).mean())


def test_noise_is_averaged_and_the_same_each_time(linear):
    model, weights = linear
    picture = tiny.pictures(1)[0]
    state = torch.get_rng_state()
    once, again = (image_map(model, picture, IntegratedGradients(samples=400, noise=0.2)) for _ in range(2))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(once, again)
    exact = (weights * (picture - blurred(picture))).sum(0)
    other = image_map(model, picture, IntegratedGradients(samples=400, noise=0.2, seed=1))
    assert not torch.equal(once, other)
    # The mean of 400 draws of standard deviation .2, times weights of at most .05.
    for each in (once, other):
        assert (each - exact).abs().max() < 4 * 0.2 / 20 * weights.square().sum(0).sqrt().max()
        assert (each - exact).abs().max() > 0


class Places(nn.Module):
    """A convolution with a stride; the logit is the mean of what a ReLU leaves of it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 2, stride=2)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, pictures):
        return self.relu(self.conv(pictures)).mean((2, 3))


def test_grad_cam_by_hand_where_a_relu_overwrites():
    network = Places()
    with torch.no_grad():
        network.conv.weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1).expand(2, 3, 2, 2) / 12)
        network.conv.bias.copy_(torch.tensor([-0.5, 0.6]))
    picture = tiny.pictures(1)[0]
    maps = network.conv(picture[None])[0].detach()
    assert (maps < 0).any()
    # The gradient of a unit is the share of its positions that are above 0; the maps are signed, as a unit's are.
    expected = ((maps > 0).float().mean((1, 2))[:, None, None] * maps).sum(0) / 36
    found = image_map(scored(network), picture, GradCam("network.conv"))
    # Pixels 1 and 2 lie a quarter and three quarters of the way from the centre of one field, .5, to that of the next.
    torch.testing.assert_close(found[0, 0], expected[0, 0])
    torch.testing.assert_close(found[11, 11], expected[5, 5])
    torch.testing.assert_close(found[0, 1], 0.75 * expected[0, 0] + 0.25 * expected[0, 1])
    torch.testing.assert_close(found[1, 2], (torch.tensor([[3, 9], [1, 3]]) / 16 * expected[:2, :2]).sum())


@pytest.mark.parametrize(("name", "layer"), [("Branches", "right.2"), ("Repeated", "last"), ("Constants", "conv")])
def test_grad_cam_as_captum_alone(name, layer):
    network = tiny.built(name)
    picture = tiny.pictures(1)[0]

    class Logit(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = private_copy(network)

        def forward(self, pictures):
            return self.network(pictures).flatten(1).sum(1)

    alone = Logit()
    cam = LayerGradCam(alone, alone.network.get_submodule(layer)).attribute(picture[None].clone().requires_grad_())
    found = image_map(scored(network), picture, GradCam(f"network.{layer}"))
    table = scored(network).layers[f"network.{layer}"]
    for row in range(table.height):
        for column in range(table.width):
            top, left = (table.offset[axis] + table.stride[axis] * place for axis, place in enumerate((row, column)))
            if top == int(top) and left == int(left) and 0 <= top < 12 and 0 <= left < 12:
                torch.testing.assert_close(found[int(top), int(left)], cam[0, 0, row, column].detach())


def test_the_default_layer_is_the_deepest_with_positions():
    model = scored(tiny.built("Branches"))
    picture = tiny.pictures(1)[0]
    assert torch.equal(image_map(model, picture, "grad-cam"), image_map(model, picture, GradCam("network.right.2")))


def test_grad_cam_takes_the_deepest_layer_that_says_where():
    fine = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 3, stride=2))  # 12, 12 and 5 positions
    model, picture = scored(fine), tiny.pictures(1)[0]
    assert torch.equal(image_map(model, picture, "grad-cam"), image_map(model, picture, GradCam("network.1")))
    assert not torch.equal(image_map(model, picture, "grad-cam"), image_map(model, picture, GradCam("network.2")))


def test_grad_cam_takes_a_block_of_resmem(resmem):
    picture = torch.rand(3, 227, 227, generator=torch.Generator().manual_seed(0))
    assert torch.equal(image_map(resmem, picture), image_map(resmem, picture, GradCam("resnet.layer3.35")))


class Aside(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.aside = nn.Conv2d(3, 2, 3), nn.Conv2d(3, 5, 3)

    def forward(self, pictures):
        self.aside(pictures)
        return self.used(pictures).mean((2, 3))


def test_a_layer_off_the_path_has_zeros():
    found = image_map(scored(Aside()), tiny.pictures(1)[0], GradCam("network.aside"))
    assert torch.equal(found, torch.zeros(12, 12))


@pytest.mark.parametrize("name", METHODS)
def test_nothing_of_the_caller_is_changed(name):
    model = scored(tiny.built("SharedInput"))
    before = {key: each.clone() for key, each in model.module.state_dict().items()}
    picture, references = tiny.pictures(1)[0], tiny.pictures(2, seed=1)
    plain = image_map(model, picture, name, references)
    assert plain.shape == (12, 12)
    assert plain.dtype == torch.float32
    assert plain.abs().max() > 0
    state = torch.get_rng_state()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        inside = image_map(model, picture.clone(), name, references.clone())
    assert not picture.requires_grad
    assert torch.equal(state, torch.get_rng_state())
    torch.testing.assert_close(inside, plain)
    by_one = image_map(model, picture, name, references, batch_size=1)
    torch.testing.assert_close(by_one, plain, atol=1e-6, rtol=1e-3)
    for key, each in model.module.state_dict().items():
        assert torch.equal(each, before[key])
    assert all(each.requires_grad and each.grad is None for each in model.module.parameters())
    assert not any(each._forward_hooks or "forward" in vars(each) for each in model.module.modules())


def test_the_default_is_a_method():
    assert DEFAULT in METHODS


def test_bad_input_says_what_is_valid():
    model = scored(tiny.built("Branches"))
    good = tiny.pictures(1)[0]
    with pytest.raises(ModelError, match=r"no method 'gradcam' .* are: grad-cam, integrated-gradients, occlusion, exp"):
        image_map(model, good, "gradcam")
    with pytest.raises(ImageError, match=r"\(1, 3, 5, 5\)"):
        image_map(model, tiny.pictures(1, 5)[0])
    with pytest.raises(ImageError, match=r"\(1, 1, 3, 12, 12\)"):
        image_map(model, tiny.pictures(1))
    with pytest.raises(ImageError, match="references contain nan"):
        image_map(model, good, references=good[None] * float("nan"))
    with pytest.raises(ImageError, match="give references="):
        image_map(model, good, ExpectedGradients())
    with pytest.raises(LayerError, match=r"no layer 'network\.lefd'"):
        image_map(model, good, GradCam("network.lefd"))
    with pytest.raises(LayerError, match=r"'network\.head' has no positions.*network\.right\.2"):
        image_map(model, good, GradCam("network.head"))
    with pytest.raises(LayerError, match=r"no convolution with positions.*another method"):
        image_map(additive.wrapped(nn.Sequential(nn.Flatten(), nn.Linear(48, 1))), tiny.pictures(1, 4)[0], "grad-cam")
    with pytest.raises(ModelError, match="batch_size=0"):
        image_map(model, good, batch_size=0)
    with pytest.raises(ModelError, match="one number a picture"):
        image_map(memviz.wrap(tiny.built("InPlace"), SIZE), good, "occlusion")
    with pytest.raises(ModelError, match="modified by an inplace operation"):
        image_map(scored(tiny.built("InPlace")), good, "grad-cam")


def test_expected_gradients_are_those_of_attribute():
    model = scored(tiny.built("Branches"))
    pictures, references = tiny.pictures(1), tiny.pictures(2, seed=1)
    own = attribute(model, pictures, references, (), steps=4, max_steps=4)
    torch.testing.assert_close(image_map(model, pictures[0], "expected-gradients", references), own.maps[0])
