import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from memviz.errors import ImageError, ModelError
from memviz.models.inputs import IMAGENET, InputSpec

pytestmark = pytest.mark.filterwarnings("error")

RESMEM = InputSpec(size=(227, 227), resize=(256, 256))
CAFFE = InputSpec(
    size=(50, 40), resize=(64, 60), mean=(104.917, 114.780, 118.355), std=(1.0, 2.0, 3.0), channels="bgr", scale=255.0
)
SPECS = {
    "resmem": RESMEM,
    "imagenet": IMAGENET,
    "caffe": CAFFE,
    "odd": InputSpec(size=(31, 48), resize=53, mean=(0.5, 0.4, 0.3)),
    "as it is": InputSpec(size=(33, 62)),
    "no crop": InputSpec(size=(64, 64), resize=(64, 64), std=(0.5, 0.5, 0.5)),
}
PHOTO_SIZES = [(100, 80), (80, 101), (333, 257), (256, 256), (41, 300), (20, 21)]


def smooth_photo(width, height):
    """A photograph's kind of picture: noise at several scales."""
    rng = np.random.default_rng(width * 1000 + height)
    layers = [
        np.asarray(Image.fromarray(rng.integers(0, 256, (n, n, 3), np.uint8)).resize((width, height)), float)
        for n in (3, 17, 90)
    ]
    return Image.fromarray(np.mean(layers, 0).astype(np.uint8))


def as_tensor(image):
    return transforms.functional.to_tensor(image)[None]


@pytest.fixture(params=SPECS.values(), ids=SPECS.keys())
def spec(request):
    return request.param


@pytest.fixture(params=PHOTO_SIZES, ids=str)
def photo(request):
    return smooth_photo(*request.param)


def torchvision_pipeline(spec):
    steps = [transforms.Resize(spec.resize)] if spec.resize else []
    steps += [transforms.CenterCrop(spec.size), transforms.ToTensor()]
    if spec.channels == "bgr":
        steps.append(lambda x: x.flip(0))
    if spec.scale != 1:
        steps.append(lambda x: x * spec.scale)
    if spec.mean or spec.std:
        steps.append(transforms.Normalize(spec.mean or (0, 0, 0), spec.std or (1, 1, 1)))
    return transforms.Compose(steps)


def test_pil_pipeline_is_torchvisions_bit_by_bit(spec, photo):
    made = spec.from_pil(photo)
    assert made.dtype == torch.float32
    assert made.is_contiguous()
    assert torch.equal(made, torchvision_pipeline(spec)(photo))


def test_every_8_bit_value_is_torchvisions():
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).convert("RGB")
    spec = replace(IMAGENET, size=(16, 16), resize=None)
    assert torch.equal(spec.from_pil(ramp), torchvision_pipeline(spec)(ramp))


def test_tensor_pipeline_agrees_with_pil_to_its_8_bit_rounding(spec, photo):
    made, reference = spec.from_tensor(as_tensor(photo))[0], spec.from_pil(photo)
    assert made.shape == reference.shape == (3, *spec.size)
    level = torch.tensor([spec.scale / 255 / std for std in spec.std or (1, 1, 1)])[:, None, None]
    assert ((made - reference).abs() <= 1.05 * level).all()  # half a level in each of the two directions of resizing


def test_tensor_pipeline_is_differentiable_and_elements_are_independent(spec):
    pictures = torch.cat([as_tensor(smooth_photo(70, 90)), as_tensor(smooth_photo(70, 90)).flip(-1)]).requires_grad_()
    made = spec.from_tensor(pictures)
    made[0].sum().backward()
    assert pictures.grad[0].abs().sum() > 0
    assert pictures.grad[1].abs().sum() == 0
    assert torch.allclose(made[1:], spec.from_tensor(pictures[1:]), atol=1e-4)


def test_without_resize_only_values_change(spec):
    pictures = torch.rand(2, 3, 19, 23, generator=torch.Generator().manual_seed(0))
    made = spec.from_tensor(pictures, resize=False)
    mean, std = (torch.tensor(v)[:, None, None] for v in (spec.mean or (0.0,) * 3, spec.std or (1.0,) * 3))
    channels = pictures.flip(1) if spec.channels == "bgr" else pictures
    assert torch.allclose(made, (channels * spec.scale - mean) / std)


def test_caffe_values_by_hand():
    red = Image.new("RGB", (60, 64), (255, 0, 10))
    assert torch.allclose(
        CAFFE.from_pil(red)[:, 0, 0], torch.tensor([10 - 104.917, (0 - 114.780) / 2, (255 - 118.355) / 3]), atol=1e-4
    )


# --- boxes


def test_box_of_the_whole_input_by_hand():
    assert RESMEM.photo_box((0, 0, 227, 227), (512, 256)) == (28, 14, 482, 241)
    assert IMAGENET.photo_box((0, 0, 224, 224), (512, 1024)) == (32, 288, 480, 736)
    assert InputSpec(size=(10, 10)).photo_box((0.5, 1, 2, 3), (30, 20)) == (10.5, 6, 12, 8)
    assert InputSpec(size=(10, 10)).photo_box((0, 0, 10, 10), (6, 5)) == (-2, -2, 8, 8)


@pytest.mark.parametrize(("left", "top"), [(140, 133), (150, 138), (161, 143)])
def test_box_leads_back_to_the_part_of_the_photograph_that_was_seen(spec, left, top):
    """The centre of a white square, found in the input, is the square's centre in the photograph."""
    pixels = np.zeros((290, 310, 3), np.uint8)
    pixels[top : top + 14, left : left + 14] = 255
    made = spec.from_pil(Image.fromarray(pixels))[0].double()
    weight = (made - made.min()) / (made - made.min()).sum()
    x = float((weight.sum(0) * (torch.arange(spec.size[1]) + 0.5)).sum())
    y = float((weight.sum(1) * (torch.arange(spec.size[0]) + 0.5)).sum())
    assert spec.photo_box((x, y, x, y), (310, 290))[:2] == pytest.approx((left + 7, top + 7), abs=0.2)


# --- the description itself


def test_json_round_trip(spec):
    again = InputSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec
    assert hash(again) == hash(spec)


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": (0, 5)},
        {"size": (5,)},
        {"size": (5, 5), "resize": 4},
        {"size": (5, 5), "resize": (8, 4)},
        {"size": (5, 5), "mean": (1.0,)},
        {"size": (5, 5), "std": (1.0, 0.0, 1.0)},
        {"size": (5, 5), "scale": 0},
        {"size": (5, 5), "channels": "gbr"},
        {"size": [5, 5], "colour": "rgb"},
        {},
    ],
)
def test_what_describes_no_input_is_refused(wrong):
    with pytest.raises(ModelError):
        InputSpec.from_dict(wrong)


def test_other_pictures_are_refused():
    with pytest.raises(ImageError, match="mode L"):
        RESMEM.from_pil(Image.new("L", (5, 5)))
    with pytest.raises(ImageError, match=r"\(3, 8, 8\)"):
        RESMEM.from_tensor(torch.zeros(3, 8, 8))
