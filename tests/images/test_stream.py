import random
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from memviz.errors import ImageError
from memviz.images import Failure, stream

pytestmark = pytest.mark.filterwarnings("error")


def first_pixel(image):
    return torch.full((3, 2, 2), float(image.getpixel((0, 0))[0]))


@pytest.fixture
def photos(tmp_path):
    """Ten grey files whose value is their place in the list."""
    paths = [tmp_path / f"{index}.png" for index in range(10)]
    for index, path in enumerate(paths):
        Image.new("L", (index + 1, 3), index).save(path)
    return paths


def readers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("memviz-images")]


def test_order_is_kept_however_long_each_file_takes(photos):
    def slowly(image):
        time.sleep(random.Random(image.width).random() / 50)
        return first_pixel(image)

    batches = list(stream(photos, slowly, batch_size=4, workers=4))
    assert [batch.indices.tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert torch.cat([batch.pictures[:, 0, 0, 0] for batch in batches]).tolist() == list(range(10))
    assert [size for batch in batches for size in batch.sizes] == [(index + 1, 3) for index in range(10)]
    assert batches[0].indices.dtype == torch.int64
    assert not any(batch.failures for batch in batches)
    assert not readers()


def test_start_keeps_the_places_in_the_list(photos):
    [batch] = stream(photos, first_pixel, batch_size=4, start=8)
    assert batch.indices.tolist() == [8, 9]
    assert list(stream(photos, first_pixel, batch_size=4, start=10)) == []


def test_unreadable_files_are_reported_and_the_rest_goes_on(photos):
    photos[1].write_text("no picture")
    photos[2].unlink()
    [batch] = stream(photos, first_pixel, batch_size=20)
    assert batch.indices.tolist() == [0, 3, 4, 5, 6, 7, 8, 9]
    assert [(failure.index, failure.path) for failure in batch.failures] == [(1, photos[1]), (2, photos[2])]
    assert batch.failures[0].reason.startswith("not a picture")
    assert batch.failures[1] == Failure(2, photos[2], "No such file or directory")


def test_batch_of_failures_only_is_empty(photos):
    bad, good = stream([Path("gone.jpg"), photos[5]], first_pixel, batch_size=1)
    assert (len(bad.indices), len(bad.pictures), bad.sizes, len(bad.failures)) == (0, 0, [], 1)
    assert good.indices.tolist() == [1]


def test_image_error_of_prepare_is_a_failure_any_other_exception_is_raised(photos):
    def too_narrow(image):
        if image.width < 3:
            raise ImageError("too narrow")
        return first_pixel(image)

    [batch] = stream(photos, too_narrow, batch_size=20)
    assert [failure.reason for failure in batch.failures] == ["too narrow"] * 2

    def broken(image):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(stream(photos, broken, batch_size=2))
    assert not readers()


def test_reads_two_batches_ahead_and_no_more(photos):
    read = []

    def noted(image):
        read.append(image.width)
        return first_pixel(image)

    batches = stream(photos, noted, batch_size=2)
    next(batches)
    deadline = time.monotonic() + 5
    while len(read) < 6 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert sorted(read) == [1, 2, 3, 4, 5, 6]
    batches.close()
    assert not readers()


def test_exception_in_the_consumer_ends_the_threads(photos):
    def consume():
        for _ in stream(photos, first_pixel, batch_size=1):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        consume()
    assert not readers()


@pytest.mark.parametrize("where", ["consumer", "waiting"])
def test_ctrl_c_ends_the_threads(photos, where):
    def prepare(image):
        if where == "waiting" and image.width == 5:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            time.sleep(0.1)
        return first_pixel(image)

    def consume():
        for batch in stream(photos, prepare, batch_size=1):
            if where == "consumer" and batch.indices.item() == 4:
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        consume()
    assert not readers()


def test_global_generators_are_left_alone(photos):
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    list(stream(photos, first_pixel, batch_size=3))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"batch_size": 1, "workers": 0}, {"batch_size": 1, "start": -1}])
def test_impossible_numbers_are_refused_at_once(photos, wrong):
    with pytest.raises(ImageError, match="give"):
        stream(photos, first_pixel, **wrong)
