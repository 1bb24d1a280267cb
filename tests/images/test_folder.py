import os

import pytest

from memviz.errors import ImageError
from memviz.images import find_images, list_images


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


def test_order_is_by_folder_and_not_by_text(tmp_path):
    for name in ("a-b/c.jpg", "a/z.jpg", "a.jpg", "a/b/c.jpg", "a/b.jpg"):
        touch(tmp_path / name)
    listed = names(list_images(tmp_path), tmp_path)
    assert listed == ["a/b/c.jpg", "a/b.jpg", "a/z.jpg", "a-b/c.jpg", "a.jpg"]
    assert [tmp_path / name for name in listed] == sorted(tmp_path.rglob("*.jpg"))
    assert [str(tmp_path / name) for name in listed] == find_images(tmp_path)


def test_no_file_of_a_folder_is_looked_at(tmp_path, monkeypatch):
    touch(tmp_path / "deeper/a.jpg"), touch(tmp_path / "b.jpg")
    looked, stat = [], os.stat
    monkeypatch.setattr(os, "stat", lambda path, *args, **options: looked.append(path) or stat(path, *args, **options))
    assert len(find_images(tmp_path)) == 2
    assert set(map(str, looked)) == {str(tmp_path), str(tmp_path / "deeper")}


def test_links_to_nothing_and_to_themselves_are_files(tmp_path):
    os.symlink(tmp_path / "nowhere", tmp_path / "a.jpg")
    os.symlink("b.jpg", tmp_path / "b.jpg")
    os.symlink("c", tmp_path / "c")
    assert names(list_images(tmp_path), tmp_path) == ["a.jpg", "b.jpg"]


def test_a_folder_that_cannot_be_read_or_vanishes_is_named(tmp_path, monkeypatch):
    touch(tmp_path / "a.jpg"), touch(tmp_path / "closed/b.jpg")
    scandir = os.scandir

    def closed(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(ImageError, match="closed cannot be read: Permission denied"):
        list_images(tmp_path)


def test_missing_and_empty_sources_say_so(tmp_path):
    with pytest.raises(ImageError, match=r"gone\.jpg does not exist"):
        list_images(tmp_path / "gone.jpg")
    with pytest.raises(ImageError, match="holds no pictures"):
        list_images(tmp_path)
    with pytest.raises(ImageError, match="No pictures were given"):
        list_images([])
