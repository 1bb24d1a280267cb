"""The original MemNet, against OpenCV's reader of Caffe's files."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from caffe_files import net
from PIL import Image

import memviz
from memviz.errors import ModelError, WeightsError
from memviz.gallery import load_recipe
from memviz.layers import capture
from memviz.models.memnet import MemNetCaffe

MEAN = np.random.default_rng(1).uniform(90, 130, (256, 256, 3)).astype(np.float32)

# name, type, and the parameters of each layer in the order of the original; "*" marks a layer with weights.
PROTOTXT = """
conv1 Convolution* convolution_param { num_output: 96 kernel_size: 11 stride: 4 }
relu1 ReLU
pool1 Pooling pooling_param { pool: MAX kernel_size: 3 stride: 2 }
lrn1 LRN lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }
conv2 Convolution* convolution_param { num_output: 256 kernel_size: 5 pad: 2 group: 2 }
relu2 ReLU
pool2 Pooling pooling_param { pool: MAX kernel_size: 3 stride: 2 }
lrn2 LRN lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }
conv3 Convolution* convolution_param { num_output: 384 kernel_size: 3 pad: 1 }
relu3 ReLU
conv4 Convolution* convolution_param { num_output: 384 kernel_size: 3 pad: 1 group: 2 }
relu4 ReLU
conv5 Convolution* convolution_param { num_output: 256 kernel_size: 3 pad: 1 group: 2 }
relu5 ReLU
pool5 Pooling pooling_param { pool: MAX kernel_size: 3 stride: 2 }
fc6 InnerProduct* inner_product_param { num_output: 4096 }
relu6 ReLU
fc7 InnerProduct* inner_product_param { num_output: 4096 }
relu7 ReLU
fc8-euclidean InnerProduct* inner_product_param { num_output: 1 }
"""
LAYERS = [line.split(maxsplit=2) for line in PROTOTXT.strip().splitlines()]


def address(name):
    branch = "head" if name[-1] in "678" or name.startswith("fc") else "alexnet"
    return f"{branch}.{name.removesuffix('-euclidean')}"


@pytest.fixture(scope="module")
def weights():
    """Random weights that keep the signal's strength from layer to layer."""
    with torch.device("meta"):
        state = MemNetCaffe().state_dict()
    random = np.random.default_rng(0)
    arrays = {}
    for name, kind, *_ in LAYERS:
        if kind.endswith("*"):
            shape = tuple(state[f"{address(name)}.weight"].shape)
            weight = random.standard_normal(shape, np.float32) * np.float32((2 / np.prod(shape[1:])) ** 0.5)
            arrays[name] = [weight, random.uniform(-1, 1, shape[0]).astype(np.float32)]
    # So that scores are not clipped: the outputs for the photograph are about .75.
    arrays["fc8-euclidean"] = [arrays["fc8-euclidean"][0] * np.float32(-0.01), np.array([0.25], np.float32)]
    return arrays


@pytest.fixture(scope="module")
def folder(weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("caffe")
    (folder / "memnet.caffemodel").write_bytes(net(weights, v1=True, legacy=True).SerializeToString())
    text = 'name: "MemNet" input: "data" input_shape { dim: 1 dim: 3 dim: 227 dim: 227 }\n'
    below = "data"
    for name, kind, *parameters in LAYERS:
        about = " ".join(parameters)
        text += f'layer {{ name: "{name}" type: "{kind.strip("*")}" bottom: "{below}" top: "{name}" {about} }}\n'
        below = name
    (folder / "deploy.prototxt").write_text(text)
    np.save(folder / "mean.npy", MEAN.transpose(2, 0, 1))
    yield folder
    (folder / "memnet.caffemodel").unlink()  # 227 MB


@pytest.fixture(scope="module")
def model(folder):
    return memviz.load_model("memnet-caffe", weights=folder / "memnet.caffemodel", mean=folder / "mean.npy")


@pytest.fixture(scope="module")
def reference(folder):
    network = cv2.dnn.readNetFromCaffe(str(folder / "deploy.prototxt"), str(folder / "memnet.caffemodel"))
    network.enableFusion(False)
    network.enableWinograd(False)
    return network


@pytest.fixture
def photo(originals):
    return Image.open(originals["astronaut.png"]).convert("RGB")


def test_has_as_many_parameters_as_published(model):
    assert sum(parameter.numel() for parameter in model.module.parameters()) == 56_872_321


def test_every_layer_agrees_with_opencvs_reader(model, reference, photo):
    picture = model.inputs.from_pil(photo)[None]
    addresses = [address(name) for name, *_ in LAYERS]
    with torch.no_grad(), capture(model.module, addresses) as found:
        model(picture)
    reference.setInput(picture.numpy())
    outputs = dict(zip(addresses, reference.forward([name for name, *_ in LAYERS]), strict=True))
    for each in addresses:
        ours, theirs = found[each].flatten(), torch.tensor(outputs[each]).flatten()
        assert theirs.abs().max() > 0.1, each
        assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max(), each


def test_score_by_hand_from_opencvs_outputs(model, reference, originals, photo):
    """Ten crops of the photograph less the mean image, blue first; the average, shifted and clipped."""
    whole = np.asarray(photo.resize((256, 256), Image.Resampling.BILINEAR), np.float32)[:, :, ::-1] - MEAN
    crops = [whole[top : top + 227, left : left + 227] for top, left in [(0, 0), (0, 29), (29, 0), (29, 29), (15, 15)]]
    crops += [crop[:, ::-1] for crop in crops]
    outputs = []
    for crop in crops:
        reference.setInput(np.ascontiguousarray(crop.transpose(2, 0, 1))[None])
        outputs.append(reference.forward().item())
    assert np.std(outputs) > 0.01
    expected = (np.mean(outputs) - 0.7626) * 2 + 0.65
    assert 0.01 < expected < 0.99
    (score,) = model.score(originals["astronaut.png"])["memorability"]
    assert score == pytest.approx(expected, abs=1e-4)


def test_preprocessing_and_layers(model, folder):
    assert np.array_equal(model.inputs.mean_image.pixels, MEAN)
    assert (model.inputs.channels, model.inputs.scale, model.inputs.crops) == ("bgr", 255.0, "ten")
    assert model.layers["alexnet.conv1"].channels == 96
    assert model.layers["alexnet@5"].receptive_field == (163, 163)


def test_without_a_mean_image_its_channel_means_are_subtracted(folder):
    with torch.device("meta"):
        model = memviz.load_model("memnet-caffe", weights=None)
    assert model.inputs.mean == (104.917, 114.780, 118.355)
    assert model.inputs.mean_image is None


def test_mean_image_of_another_size(folder):
    np.save(folder / "small.npy", MEAN[:227, :227])
    with pytest.raises(ModelError, match=r"MeanImage\(227x227 px.*resize=\(256, 256\)"):
        memviz.load_model("memnet-caffe", weights=None, mean=folder / "small.npy")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: arrays.pop("conv3"), r"2 missing, such as 'conv3\.weight' of shape \(384, 256, 3, 3\)\.$"),
        (lambda arrays: arrays["fc8-euclidean"].pop(), r"1 missing, such as 'fc8-euclidean\.bias' of shape \(1,\)\.$"),
        (
            lambda arrays: arrays.update(fc9=arrays["fc8-euclidean"]),
            r"2 unknown, such as 'fc9\.weight' of shape \(1, 4096\)\.$",
        ),
        (
            lambda arrays: arrays.update(conv3=[arrays["conv3"][0][:, :128], arrays["conv3"][1]]),
            r"'conv3\.weight' is \(384, 128, 3, 3\) and must be \(384, 256, 3, 3\)",
        ),
    ],
    ids=["missing", "missing bias", "unknown", "shape"],
)
def test_files_that_do_not_fit_name_the_layer_and_both_shapes(change, message, weights, tmp_path):
    arrays = {name: list(parts) for name, parts in weights.items()}
    change(arrays)
    path = tmp_path / "other.caffemodel"
    path.write_bytes(net(arrays, v1=False, legacy=False).SerializeToString())
    with pytest.raises(WeightsError, match=rf"other\.caffemodel does not fit a MemNetCaffe: .*{message}"):
        memviz.load_model("memnet-caffe", weights=path)
    path.unlink()


def test_the_recipe_that_sets_its_alexnet_beside_another_models_resnet(folder, model, resmem, originals, tmp_path):
    recipes, photos = tmp_path / "galleries", tmp_path / "photos"
    for each in (recipes, photos):
        each.mkdir()
    (tmp_path / "weights").symlink_to(folder)
    shutil.copy(Path(__file__).parents[2] / "galleries" / "two-models.toml", recipes)
    for name in ("astronaut.png", "coffee.png", "rocket.jpg", "chelsea.png", "china.jpg", "flower.jpg"):
        shutil.copy(originals[name], photos)
    memviz.build_index(model, photos, out=tmp_path / "runs" / "memnet-photos")
    index = memviz.build_index(resmem, photos, out=tmp_path / "runs" / "photos")
    recipe = replace(load_recipe(recipes / "two-models.toml"), render=memviz.RenderConfig(size=64, steps=2))
    page = memviz.make_gallery(recipe, out=tmp_path / "page", index=index)
    shown = json.loads((page.parent / "gallery.json").read_text())
    sides = [(group["network"], group["finding"]) for section in shown["sections"] for group in section["groups"]]
    # An AlexNet at random, which the file holds here, is nothing that a registry can know.
    assert sides == [("memnet-caffe", ""), ("resmem", "")] * 3
