import numpy as np
import pytest
from PIL import Image

from memviz.errors import ImageError
from memviz.images import list_images, sample_photos, samples

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("samples")
    return folder, sample_photos(folder)


def test_about_120_photographs_whole_and_in_crops(written):
    folder, paths = written
    assert 100 <= len(paths) <= 140
    assert paths == list_images(folder)  # and nothing else was left there
    assert {"astronaut.jpg", "astronaut_crop2.jpg", "china.jpg", "flower_crop8.jpg"} <= {path.name for path in paths}


def test_pictures_are_large_enough_different_and_not_blank(written):
    contents = set()
    for path in written[1]:
        with Image.open(path) as image:
            assert (image.format, image.mode) == ("JPEG", "RGB")
            assert min(image.size) >= 120
            gray = np.asarray(image.convert("L"), dtype=float)
        assert gray.std() > 8, path
        contents.add(path.read_bytes())
    assert len(contents) == len(written[1])


def test_photograph_is_the_packages_own(written):
    source = samples._find_package("skimage") / "data/astronaut.png"
    with Image.open(source) as original, Image.open(written[0] / "astronaut.jpg") as copy:
        assert np.abs(np.asarray(original).astype(int) - np.asarray(copy)).mean() < 3


def test_existing_files_are_kept_and_missing_ones_come_back_the_same(written):
    folder, paths = written
    lost, kept = folder / "coins_crop3.jpg", folder / "coins.jpg"
    content, time = lost.read_bytes(), kept.stat().st_mtime_ns
    lost.unlink()
    assert sample_photos(folder) == paths
    assert lost.read_bytes() == content
    assert kept.stat().st_mtime_ns == time


def test_packages_without_photographs_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "_find_package", lambda package: tmp_path)
    with pytest.raises(ImageError, match="reinstall"):
        sample_photos(tmp_path / "out")
