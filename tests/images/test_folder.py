import os

import pytest

from memviz.errors import ImageError
from memviz.images import list_images


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def names(paths, root):
    return [path.relative_to(root).as_posix() for path in paths]


def test_folder_is_listed_recursively_sorted_by_extension_without_hidden_ones(tmp_path):
    for name in (
        "b/z.jpg",
        "b/a.JPEG",
        "a.png",
        "c.heic",
        "read.me",
        "x.csv",
        ".hidden.jpg",
        ".git/d.jpg",
        "b/.writing-1.jpg",
    ):
        touch(tmp_path / name)
    assert names(list_images(tmp_path), tmp_path) == ["a.png", "b/a.JPEG", "b/z.jpg", "c.heic"]


def test_hidden_folder_given_by_name_is_listed(tmp_path):
    touch(tmp_path / ".cache/a.jpg")
    assert names(list_images(tmp_path / ".cache"), tmp_path) == [".cache/a.jpg"]


def test_sources_keep_their_order_and_each_file_comes_once(tmp_path):
    b, a = touch(tmp_path / "two/b.jpg"), touch(tmp_path / "one/a.jpg")
    assert list_images([b, tmp_path / "one", str(b), tmp_path]) == [b, a]


def test_named_file_is_taken_whatever_its_extension(tmp_path):
    path = touch(tmp_path / "photo.data")
    assert list_images(str(path)) == [path]


def test_folder_named_like_a_picture_is_a_folder(tmp_path):
    touch(tmp_path / "x.jpg/inside.png")
    assert names(list_images(tmp_path), tmp_path) == ["x.jpg/inside.png"]


def test_linked_folders_are_followed_and_circles_end(tmp_path):
    touch(tmp_path / "elsewhere/a.jpg")
    (tmp_path / "photos").mkdir()
    os.symlink(tmp_path / "elsewhere", tmp_path / "photos/linked")
    os.symlink(tmp_path / "photos", tmp_path / "elsewhere/back")
    assert names(list_images(tmp_path / "photos"), tmp_path) == ["photos/linked/a.jpg"]


def test_missing_and_empty_sources_say_so(tmp_path):
    with pytest.raises(ImageError, match=r"gone\.jpg does not exist"):
        list_images(tmp_path / "gone.jpg")
    with pytest.raises(ImageError, match="holds no pictures"):
        list_images(tmp_path)
    with pytest.raises(ImageError, match="No pictures were given"):
        list_images([])
