import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from memviz.errors import ImageError, ModelError
from memviz.models import inputs
from memviz.models.inputs import IMAGENET, InputSpec
from memviz.models.mean_image import MeanImage

pytestmark = pytest.mark.filterwarnings("error")

RESMEM = InputSpec(size=(227, 227), resize=(256, 256))
CAFFE = InputSpec(
    size=(50, 40), resize=(64, 60), mean=(104.917, 114.780, 118.355), std=(1.0, 2.0, 3.0), channels="bgr", scale=255.0
)
MEAN_IMAGE = MeanImage(np.random.default_rng(0).random((64, 60, 3)) * 255)
MEAN_29 = MeanImage(np.random.default_rng(1).random((29, 29, 3)) * 255)
TEN = replace(CAFFE, mean=None, mean_image=MEAN_IMAGE, crops="ten")
SPECS = {
    "resmem": RESMEM,
    "imagenet": IMAGENET,
    "caffe": CAFFE,
    "odd": InputSpec(size=(31, 48), resize=53, mean=(0.5, 0.4, 0.3)),
    "as it is": InputSpec(size=(33, 62)),
    "mean image": replace(TEN, crops="centre"),
    "ten crops": TEN,
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
    if spec.mean_image:  # of the centre crop of 40 by 50 in 60 by 64
        mean = torch.tensor(spec.mean_image.pixels[7:57, 10:50].transpose(2, 0, 1))
        steps.append(lambda x: x - mean)
    if spec.mean or spec.std:
        steps.append(transforms.Normalize(spec.mean or (0, 0, 0), spec.std or (1, 1, 1)))
    return transforms.Compose(steps)


def test_pil_pipeline_is_torchvisions_bit_by_bit(spec, photo):
    made = spec.from_pil(photo)
    assert made.dtype == torch.float32
    assert made.is_contiguous()
    assert torch.equal(made, torchvision_pipeline(spec)(photo))


SHORT_SIDE = {
    "imagenet": IMAGENET,
    "odd": SPECS["odd"],
    "ten": InputSpec(size=(31, 48), resize=53, channels="bgr", scale=255.0, crops="ten"),
}


@pytest.mark.parametrize("size", [(1, 900), (700, 2), (23, 1711), (3001, 40), (256, 2000)], ids=str)
@pytest.mark.parametrize("spec", SHORT_SIDE.values(), ids=SHORT_SIDE)
def test_crops_that_are_resized_alone_are_those_of_the_whole(monkeypatch, spec, size):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8))
    whole = spec.crops_from_pil(noise)
    monkeypatch.setattr(inputs, "MAX_RESIZED", 0)
    alone = spec.crops_from_pil(noise)
    level = spec.scale / 255 / min(spec.std or (1,))
    assert (alone - whole).abs().max() <= 1.01 * level
    assert (alone == whole).float().mean() > 0.8  # of white noise: Pillow may have taken the axes in the other order
    assert torch.equal(spec.from_pil(noise), alone[0])


@pytest.mark.parametrize("size", [(1, 20_000), (20_000, 1), (900_000, 1)], ids=str)
def test_no_picture_of_gigabytes_is_made_of_a_long_thin_one(monkeypatch, size):
    made = []
    resize = Image.Image.resize

    def watched(image, size, *args, **kwargs):
        made.append(math.prod(size))
        if made[-1] > 2**25:
            pytest.fail(f"{size} pixels take {4 * made[-1] / 1e9:.1f} GB")
        return resize(image, size, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "resize", watched)
    seen = IMAGENET.crops_from_pil(Image.new("RGB", size, (255, 0, 0)))
    red = (torch.tensor([1.0, 0, 0]) - torch.tensor(IMAGENET.mean)) / torch.tensor(IMAGENET.std)
    assert torch.allclose(seen, red[:, None, None].expand(1, 3, 224, 224), atol=1e-6)
    assert made


def test_long_thin_pictures_as_tensors_are_refused():
    with pytest.raises(ImageError, match=r"1 x 20000 px .* 256 x 5120000 px.*crop them first"):
        IMAGENET.from_tensor(torch.zeros(1, 3, 20_000, 1))


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
    if spec.mean_image:
        mean = transforms.functional.resize(torch.tensor(MEAN_IMAGE.pixels[7:57, 10:50].transpose(2, 0, 1)), (19, 23))
    assert torch.allclose(made, (channels * spec.scale - mean) / std, atol=1e-4)


def test_caffe_values_by_hand():
    red = Image.new("RGB", (60, 64), (255, 0, 10))
    assert torch.allclose(
        CAFFE.from_pil(red)[:, 0, 0], torch.tensor([10 - 104.917, (0 - 114.780) / 2, (255 - 118.355) / 3]), atol=1e-4
    )


# --- mean images and ten crops


def test_mean_image_of_one_colour_is_a_mean(photo):
    flat = replace(CAFFE, mean=None, mean_image=MeanImage(np.broadcast_to(CAFFE.mean, (64, 60, 3))))
    assert torch.allclose(flat.from_pil(photo), CAFFE.from_pil(photo), atol=1e-4)
    pictures = torch.rand(2, 3, 19, 23, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(flat.from_tensor(pictures, False), CAFFE.from_tensor(pictures, False), atol=1e-4)


def test_mean_image_at_the_inputs_own_size_is_its_centre_crop():
    pictures = torch.rand(1, 3, *TEN.size, generator=torch.Generator().manual_seed(0))
    expected = pictures.flip(1) * 255 - torch.tensor(MEAN_IMAGE.pixels[7:57, 10:50]).permute(2, 0, 1)
    made = TEN.from_tensor(pictures, resize=False)
    torch.testing.assert_close(made, expected / torch.tensor(TEN.std)[:, None, None])


def test_ten_crops_are_those_of_caffes_matlab_demo(photo):
    """As there: the mean is subtracted from the whole picture, and a crop is mirrored after that."""
    size, length = 16, 29
    spec = InputSpec((size, size), (length, length), channels="bgr", scale=255.0, mean_image=MEAN_29, crops="ten")
    whole = np.asarray(photo.resize((length, length), Image.Resampling.BILINEAR), np.float32)[:, :, ::-1]
    whole = (whole - MEAN_29.pixels).transpose(2, 0, 1)
    centre, ends = 7, (0, 13)  # the demo's floor((13 + 1) / 2) + 1, counted from 1
    corners = [(centre, centre), *((top, left) for top in ends for left in ends)]
    crops = [whole[:, top : top + size, left : left + size] for top, left in corners]
    crops += [crop[:, :, ::-1] for crop in crops]
    made = spec.crops_from_pil(photo)
    assert made.is_contiguous()
    torch.testing.assert_close(made, torch.tensor(np.stack(crops)), atol=1e-4, rtol=0)


@pytest.mark.parametrize("given", [*SPECS.values(), TEN, replace(IMAGENET, crops="ten")], ids=str)
def test_inputs_of_8_bit_pixels_are_those_of_photographs_bit_by_bit(given, photo):
    photographs = [photo, photo.transpose(Image.Transpose.ROTATE_90)]
    pixels = torch.stack([given.pixels_from_pil(each) for each in photographs])
    assert pixels.dtype == torch.uint8
    for crop in range(10 if given.crops == "ten" else 1):
        wanted = torch.stack([given.crops_from_pil(each)[crop] for each in photographs])
        assert torch.equal(given.from_pixels(pixels, crop), wanted)


def test_every_8_bit_value_is_divided_and_not_multiplied_by_a_reciprocal():
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3))
    spec = replace(IMAGENET, size=(16, 16), resize=None)
    assert torch.equal(spec.from_pixels(spec.pixels_from_pil(ramp)[None])[0], spec.from_pil(ramp))


@pytest.mark.parametrize("given", [TEN, replace(IMAGENET, crops="ten"), RESMEM, IMAGENET], ids=str)
def test_crops_of_tensors_are_those_of_photographs(given, photo):
    made, reference = given.crops_from_tensor(as_tensor(photo)), given.crops_from_pil(photo)
    assert made.shape == (1, *reference.shape) == (1, 10 if given.crops == "ten" else 1, 3, *given.size)
    level = torch.tensor([given.scale / 255 / std for std in given.std or (1, 1, 1)])[:, None, None]
    assert ((made[0] - reference).abs() <= 1.05 * level).all()
    assert torch.equal(reference[0], given.from_pil(photo))
    assert torch.equal(made[:, 0], given.from_tensor(as_tensor(photo)))


def test_centre_of_memnets_crops():
    """Offset 15, as in the ports of MemNet; torchvision's is 14."""
    box = (0, 0, 227, 227)
    assert replace(RESMEM, crops="ten").photo_box(box, (256, 256)) == (15, 15, 242, 242)
    assert RESMEM.photo_box(box, (256, 256)) == (14, 14, 241, 241)


def test_mean_image_is_a_value():
    assert MEAN_IMAGE == MeanImage(MEAN_IMAGE.pixels.copy()) != MEAN_29
    assert not MEAN_IMAGE.pixels.flags.writeable
    assert "MeanImage(64x60 px" in repr(TEN)


def test_mean_image_of_a_file(tmp_path):
    np.save(tmp_path / "mean.npy", MEAN_IMAGE.pixels.transpose(2, 0, 1))
    assert MeanImage(tmp_path / "mean.npy") == MEAN_IMAGE


@pytest.mark.parametrize("wrong", [np.zeros(3), np.zeros((3, 8, 8)), np.zeros((8, 8))])
def test_what_is_no_mean_image_is_refused(wrong):
    with pytest.raises(ModelError, match="valid is"):
        MeanImage(wrong)


def test_descriptions_from_before_these_fields_stay_as_they_were():
    assert set(RESMEM.to_dict()) == {"size", "resize", "mean", "std", "channels", "scale"}


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
    made = (spec.from_pil(Image.fromarray(pixels)) - spec.from_pil(Image.new("RGB", (310, 290))))[0].double()
    weight = made / made.sum()
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
        {"size": (5, 5), "resize": 6, "crops": "five"},
        {"size": (5, 5), "crops": "ten"},
        {"size": (5, 5), "resize": (64, 61), "mean_image": MEAN_IMAGE},
        {"size": (5, 5), "resize": 64, "mean_image": MEAN_IMAGE},
        {"size": (5, 5), "resize": (64, 60), "mean_image": MEAN_IMAGE, "mean": (1.0, 1.0, 1.0)},
        {"size": (5, 5), "resize": (64, 60), "mean_image": {"shape": [64, 60, 3]}},
        {"size": (5, 5), "resize": (64, 60), "mean_image": {"shape": [64, 60, 3], "float32": "AAAA"}},
        {},
        [],
        None,
        {"size": (5, 5), "resize": (100_000, 100_000)},
        {"size": (5, 5), "resize": 100_000},
        {"size": (5000, 5)},
        {"size": (5, 5), "resize": (8, 10**5000)},
        {"size": (5.0, 5.5)},
        {"size": ("5", 5)},
        {"size": 5},
        {"size": (True, 5)},
        {"size": (5, 5), "resize": {"short": 6}},
        {"size": (5, 5), "resize": (8, 8, 8)},
        {"size": (5, 5), "mean": ("1", 1.0, 1.0)},
        {"size": (5, 5), "mean": 1.0},
        {"size": (5, 5), "mean": (math.nan, 1.0, 1.0)},
        {"size": (5, 5), "std": (math.inf, 1.0, 1.0)},
        {"size": (5, 5), "scale": "255"},
        {"size": (5, 5), "scale": math.nan},
        {"size": (5, 5), "scale": None},
        {"size": (5, 5), "channels": []},
        {"size": (5, 5), "resize": 6, "crops": {}},
        {"size": (5, 5), "resize": (64, 60), "mean_image": [1]},
        {"size": (1, 1), "resize": (1, 1), "mean_image": {"shape": "113", "float32": "AAAAAAAAAAAAAAAA"}},
        {"size": (1, 1), "resize": (1, 1), "mean_image": {"shape": [-1, 1, 3], "float32": 3}},
        {"size": (1, 1), "resize": (1, 1), "mean_image": {"shape": [10**9, 10**9, 3], "float32": "AAAAAAAAAAAAAAAA"}},
        {"size": (1, 1), "resize": (1, 1), "mean_image": {"shape": [1, 1, 3], "float32": "AADAfwAAAAAAAAAA"}},
    ],
    ids=lambda wrong: repr(wrong)[:60] if wrong != {"size": (5, 5), "resize": (8, 10**5000)} else "10,000 digits",
)
def test_what_describes_no_input_is_refused(wrong):
    with pytest.raises(ModelError):
        InputSpec.from_dict(wrong)


def test_other_pictures_are_refused():
    with pytest.raises(ImageError, match="mode L"):
        RESMEM.from_pil(Image.new("L", (5, 5)))
    with pytest.raises(ImageError, match=r"\(3, 8, 8\)"):
        RESMEM.from_tensor(torch.zeros(3, 8, 8))
