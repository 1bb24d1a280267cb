import re

import numpy as np
import pytest
import scipy.io
from caffe_files import fill_blob, net

import memviz
from memviz.errors import WeightsError
from memviz.models.caffe import message_class, read_caffemodel, read_mean
from memviz.models.weights import read_state_dict

RNG = np.random.default_rng(0)
WEIGHTS = {
    "conv1": [RNG.random((4, 3, 5, 5), np.float32), RNG.random(4, np.float32)],
    "pointwise": [RNG.random((1, 1, 2, 2), np.float32), RNG.random(1, np.float32)],
    "fc-8": [RNG.random((1, 7), np.float32), RNG.random(1, np.float32)],
    "fc6": [RNG.random((6, 7), np.float32)],
}


@pytest.fixture(params=[(True, True), (True, False), (False, True), (False, False)], ids=str)
def path(request, tmp_path):
    (tmp_path / "net.caffemodel").write_bytes(net(WEIGHTS, *request.param).SerializeToString())
    return tmp_path / "net.caffemodel"


def test_weights_have_the_shapes_of_pytorch_in_all_forms(path):
    read = read_caffemodel(path)
    assert list(read) == list(WEIGHTS)
    for name, arrays in WEIGHTS.items():
        assert [array.shape for array in read[name]] == [array.shape for array in arrays]
        assert all(np.array_equal(a, b) for a, b in zip(read[name], arrays, strict=True))
        assert all(array.dtype == np.float32 and array.flags.writeable for array in read[name])


def test_state_dict(path):
    state = read_state_dict(str(path))
    assert list(state) == [
        "conv1.weight", "conv1.bias", "pointwise.weight", "pointwise.bias", "fc-8.weight", "fc-8.bias", "fc6.weight",
    ]  # fmt: skip
    assert np.array_equal(state["fc6.weight"].numpy(), WEIGHTS["fc6"][0])


def test_the_bytes_are_caffes():
    """By hand from caffe.proto: field 100, name "a", type "B", one blob of shape (2,) with 1.0 and 2.0."""
    blob = b"\x2a\x08\x00\x00\x80\x3f\x00\x00\x00\x40" + b"\x3a\x03\x0a\x01\x02"
    layer = b"\x0a\x01a" + b"\x12\x01B" + b"\x3a" + bytes([len(blob)]) + blob
    message = message_class("Net").FromString(b"\xa2\x06" + bytes([len(layer)]) + layer)
    assert (message.layer[0].name, message.layer[0].type) == ("a", "B")
    assert list(message.layer[0].blobs[0].shape.dim) == [2]
    assert b"".join(message.layer[0].blobs[0].data) == np.array([1, 2], "<f4").tobytes()


def test_numbers_in_pieces(tmp_path):
    message = net({"fc": [WEIGHTS["fc6"][0]]}, v1=False, legacy=False)
    blob = message.layer[1].blobs[0]
    whole = blob.data.pop()
    blob.data.extend([whole[:40], whole[40:]])
    (tmp_path / "net.caffemodel").write_bytes(message.SerializeToString())
    assert np.array_equal(read_caffemodel(tmp_path / "net.caffemodel")["fc"][0], WEIGHTS["fc6"][0])


@pytest.mark.parametrize("keep", [0, 1, 5, 100, 0.5, 0.9, -1], ids=str)
def test_truncated_file_is_named(keep, path):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(WeightsError, match=r"net\.caffemodel (cannot be read; it is damaged|holds no layer)"):
        read_caffemodel(path)


def test_the_layer_in_which_a_file_ends_is_named(path):
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b"pointwise") + 20])
    with pytest.raises(WeightsError, match=r"ends within the layer 'pointwise', after \d+ of that layer's \d+ bytes"):
        read_caffemodel(path)
    path.write_bytes(whole[:-1])
    with pytest.raises(WeightsError, match=r"ends within the layer 'fc6'") as caught:
        read_caffemodel(path)
    there, needed = map(int, re.findall(r"\d+", str(caught.value).rpartition("'fc6'")[2]))
    assert there == needed - 1


def test_numbers_that_do_not_fill_their_shape_are_named(tmp_path):
    message = net(WEIGHTS, v1=True, legacy=True)
    message.layers[1].blobs[0].width = 6
    (tmp_path / "net.caffemodel").write_bytes(message.SerializeToString())
    with pytest.raises(WeightsError, match=r"blob 0 of 'conv1' has 300 numbers.*\(4, 3, 5, 6\) holds 360"):
        read_caffemodel(tmp_path / "net.caffemodel")


@pytest.mark.parametrize("content", [b"<html>", b"version https://git-lfs.github.com/spec/v1\noid", b"\x00" * 99])
def test_other_content_is_named(content, tmp_path):
    (tmp_path / "net.caffemodel").write_bytes(content)
    with pytest.raises(WeightsError, match=r"net\.caffemodel"):
        read_caffemodel(tmp_path / "net.caffemodel")


def test_missing_file(tmp_path):
    with pytest.raises(WeightsError, match="There is no file"):
        read_caffemodel(tmp_path / "net.caffemodel")
    with pytest.raises(WeightsError, match="There is no file"):
        read_mean(tmp_path / "mean.npy")


# Mean images

MEAN = RNG.random((6, 5, 3), np.float32) * 255


def binaryproto(path, array, legacy):
    path.write_bytes(fill_blob(message_class("Blob")(), array, legacy).SerializeToString())


SAVE_MEAN = {
    "caffe.npy": lambda path: np.save(path, MEAN.transpose(2, 0, 1)),
    "double.npy": lambda path: np.save(path, MEAN.astype(float).transpose(2, 0, 1)),
    "plain.npy": lambda path: np.save(path, MEAN),
    "batch.npy": lambda path: np.save(path, MEAN.transpose(2, 0, 1)[None]),
    "old.binaryproto": lambda path: binaryproto(path, MEAN.transpose(2, 0, 1), legacy=True),
    "new.binaryproto": lambda path: binaryproto(path, MEAN.transpose(2, 0, 1), legacy=False),
    "2015.mat": lambda path: scipy.io.savemat(path, {"mean_data": MEAN.swapaxes(0, 1)}),
    "2014.mat": lambda path: scipy.io.savemat(path, {"image_mean": MEAN}),
}


@pytest.mark.parametrize("name", SAVE_MEAN)
def test_mean_image_in_all_forms(name, tmp_path):
    SAVE_MEAN[name](tmp_path / name)
    for path in (tmp_path / name, str(tmp_path / name)):
        mean = read_mean(path)
        assert mean.dtype == np.float32
        assert np.array_equal(mean, MEAN)


@pytest.mark.parametrize("name", SAVE_MEAN)
@pytest.mark.parametrize("keep", [0, 20, 0.8])
def test_truncated_mean_image_is_named(name, keep, tmp_path):
    path = tmp_path / name
    SAVE_MEAN[name](path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(WeightsError, match=name):
        read_mean(path)


@pytest.mark.parametrize("wrong", [np.zeros(3), np.zeros((4, 5, 6)), np.zeros((2, 3, 8, 8)), np.full((3, 2, 2), "x")])
def test_what_is_no_mean_image_is_said_so(wrong, tmp_path):
    np.save(tmp_path / "mean.npy", wrong)
    with pytest.raises(WeightsError, match=r"mean\.npy is .* of shape"):
        read_mean(tmp_path / "mean.npy")


def test_unknown_kinds_of_mean_images(tmp_path):
    scipy.io.savemat(tmp_path / "other.mat", {"x": 1})
    (tmp_path / "mean.png").touch()
    with pytest.raises(WeightsError, match="neither mean_data nor image_mean"):
        read_mean(tmp_path / "other.mat")
    with pytest.raises(WeightsError, match=r"give a \.npy, \.binaryproto or \.mat"):
        read_mean(tmp_path / "mean.png")


def test_objects_are_not_unpickled(tmp_path):
    np.save(tmp_path / "mean.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(WeightsError, match=r"mean\.npy cannot be read"):
        read_mean(tmp_path / "mean.npy")


def test_a_network_that_is_not_the_models(path, toy):
    with pytest.raises(WeightsError, match=r"net\.caffemodel does not fit a Toy: .*missing.*unknown, such as 'conv1"):
        memviz.load_model("toy", weights=path)
