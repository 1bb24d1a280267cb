import hashlib
import io
import os
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from memviz.errors import ImageError
from memviz.images import archive, content_hash, find_images, list_images, open_image, state, stream


def picture(value, format_="PNG"):
    data = io.BytesIO()
    pixels = np.random.default_rng(value).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(data, format=format_)
    return data.getvalue()


def pack(path, members, **options):
    """A tar archive of (name, bytes), or of finished TarInfos."""
    with tarfile.open(path, "w", **options) as tar:
        for name, content in members:
            entry = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            if entry.isreg():
                entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


@pytest.fixture
def shard(tmp_path):
    """As WebDataset writes it: samples beside one another, with what else is known of each."""
    members = [("0001.png", picture(1)), ("0001.json", b"{}"), ("b/0000.PNG", picture(0)), ("./c.png", picture(3))]
    return pack(tmp_path / "000.tar", [*members, ("._c.png", b"x"), (".hidden/d.png", b"x")])


def test_an_archive_is_like_a_folder_in_its_own_order(tmp_path, shard):
    assert list_images(shard) == [shard / "0001.png", shard / "b/0000.PNG", shard / "c.png"]
    for name, value in (("0001.png", 1), ("b/0000.PNG", 0), ("c.png", 3)):
        path = shard / name
        assert content_hash(path) == hashlib.sha256(picture(value)).hexdigest()
        assert state(path) == (len(picture(value)), shard.stat().st_mtime_ns)
        (tmp_path / "plain.png").write_bytes(picture(value))
        assert open_image(path).tobytes() == open_image(tmp_path / "plain.png").tobytes()
    assert find_images([shard / "c.png", shard]) == [f"{shard}/{name}" for name in ("c.png", "0001.png", "b/0000.PNG")]


@pytest.mark.parametrize("format_", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_long_names_and_other_alphabets(tmp_path, format_):
    names = ["x" * 90 + "/" + "y" * 90 + ".png", "фото/日本.png"]
    if format_ != tarfile.USTAR_FORMAT:
        names.append("z" * 300 + ".png")
    # In lower case the first letter is two.
    shard = pack(tmp_path / "İstanbul.TAR", [(name, picture(2)) for name in names], format=format_)
    assert [path.relative_to(shard).as_posix() for path in list_images(shard)] == names
    assert all(open_image(path).size == (16, 16) for path in list_images(shard))


def test_a_stream_reads_what_is_whole_and_names_what_is_not(tmp_path):
    members = [
        ("a.png", picture(1)),
        ("b.jpg", picture(2, "JPEG")[:300]),
        ("c.png", b""),
        ("d.jpg", b"Dear photograph"),
    ]
    shard = pack(tmp_path / "a.tar", members)
    gone = shard / "gone.png"
    [batch] = stream([*list_images(shard), gone], lambda image: torch.zeros(1), batch_size=8)
    assert batch.indices.tolist() == [0]
    reasons = [failure.reason for failure in batch.failures]
    assert "damaged" in reasons[0]
    assert reasons[1] == "an empty file"
    assert "not a picture" in reasons[2]
    assert reasons[3] == "Not a directory"
    with pytest.raises(ImageError, match="meanwhile"):
        open_image(shard / "a.png", "0" * 64)
    with pytest.raises(OSError, match="No such file"):
        content_hash(gone)


def test_an_archive_that_is_replaced_is_read_anew(shard):
    before = open_image(shard / "c.png").tobytes()
    pack(shard, [("first.png", picture(7)), ("c.png", picture(8))])
    os.utime(shard, ns=(1, 1))
    assert len(list_images(shard)) == 2
    assert open_image(shard / "c.png").tobytes() != before


def linked(name, kind, target):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry, b""


def test_links_devices_and_folders_in_an_archive_are_no_photographs(tmp_path):
    odd = [
        linked("link.png", tarfile.SYMTYPE, "/etc/passwd"),
        linked("hard.png", tarfile.LNKTYPE, "a.png"),
        linked("pipe.png", tarfile.FIFOTYPE, ""),
        linked("folder.png", tarfile.DIRTYPE, ""),
    ]
    shard = pack(tmp_path / "a.tar", [("a.png", picture(1)), *odd])
    assert list_images(shard) == [shard / "a.png"]


@pytest.mark.parametrize("name", ["../out.png", "a/../../out.png", "/etc/out.png"])
def test_names_that_lead_out_are_refused(tmp_path, name):
    shard = pack(tmp_path / "a.tar", [("a.png", picture(1)), (name, picture(2))])
    with pytest.raises(ImageError, match=r"a\.tar holds '.*out\.png', a name that leads out of it"):
        list_images(shard)


def test_a_name_that_occurs_twice_is_refused(tmp_path):
    shard = pack(tmp_path / "a.tar", [("a.png", picture(1)), ("./a.png", picture(2))])
    with pytest.raises(ImageError, match=r"holds 'a\.png' twice"):
        list_images(shard)


@pytest.mark.parametrize("cut", [100, 600, 1400, 2048 + 100, -10240 + 100])
def test_a_truncated_archive_is_refused_wherever_it_was_cut(tmp_path, cut):
    shard = pack(tmp_path / "a.tar", [(f"{number}.png", picture(number)) for number in range(5)])
    content = shard.read_bytes()
    end = len(content.rstrip(b"\0")) // 512 * 512 + 512
    shard.write_bytes(content[: cut if cut > 0 else end])
    with pytest.raises(ImageError, match=r"a\.tar is no tar archive that can be read in place, or is truncated"):
        list_images(shard)


def test_a_damaged_header_does_not_end_the_list_without_a_word(tmp_path):
    shard = pack(tmp_path / "a.tar", [(f"{number}.png", picture(number)) for number in range(5)])
    content = bytearray(shard.read_bytes())
    place = content.index(b"3.png")
    content[place : place + 100] = b"\xff" * 100
    shard.write_bytes(content)
    with pytest.raises(ImageError, match="it breaks off at byte"):
        list_images(shard)


def test_random_damage_is_never_another_exception(tmp_path):
    rng = np.random.default_rng(0)
    whole = pack(tmp_path / "a.tar", [(f"{number}.png", picture(number)) for number in range(3)]).read_bytes()
    for number in range(60):
        content = bytearray(whole)
        headers = [place for place in range(0, len(content), 512) if content[place + 257 : place + 262] == b"ustar"]
        for place in rng.integers(0, 512, 4):
            content[int(rng.choice(headers)) + place] = rng.integers(256)
        shard = tmp_path / f"{number}.tar"
        shard.write_bytes(content)
        try:
            for path in list_images(shard):
                open_image(path)
        except ImageError as error:
            assert str(shard) in str(error)  # noqa: PT017 (some damage is harmless)


def test_compressed_empty_and_foreign_archives_are_refused(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.png"))
    (tmp_path / "b.tar").touch()
    (tmp_path / "c.tar").write_bytes(picture(0) * 20)
    for name in ("a", "b", "c"):
        with pytest.raises(ImageError, match="no tar archive that can be read in place"):
            list_images(tmp_path / f"{name}.tar")
    pack(tmp_path / "d.tar", [("notes.txt", b"x")])
    with pytest.raises(ImageError, match="holds no pictures"):
        list_images(tmp_path / "d.tar")


def test_archives_in_a_folder_are_left_out_and_said(tmp_path, shard):
    with pytest.raises(ImageError, match=r"give by name: FOLDER/\*\.tar"):
        list_images(tmp_path)
    (tmp_path / "a.png").write_bytes(picture(0))
    assert list_images(tmp_path) == [tmp_path / "a.png"]


def test_a_folder_named_like_an_archive_is_a_folder(tmp_path):
    (tmp_path / "a.tar").mkdir()
    (tmp_path / "a.tar/b.png").write_bytes(picture(0))
    assert list_images(tmp_path / "a.tar") == [tmp_path / "a.tar/b.png"]
    assert open_image(tmp_path / "a.tar/b.png").size == (16, 16)


def test_an_archive_is_listed_once_for_many_reads(shard, monkeypatch):
    paths = list_images(shard)
    monkeypatch.setattr(tarfile, "open", None)
    assert [open_image(path).size for path in paths] == [(16, 16)] * 3
    assert archive.member(str(shard / "gone.png")) is None
