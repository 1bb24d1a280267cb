import hashlib
import io
import struct
import threading
import warnings
import zlib

import numpy as np
import pytest
import torch
from helpers import misnamed
from PIL import Image, ImageFile, ImageOps

from memviz.errors import ImageError
from memviz.images import decode, open_image, stream

pytestmark = pytest.mark.filterwarnings("error")

RED, GREEN, BLUE, GRAY = (200, 30, 40), (20, 180, 60), (30, 50, 210), (120, 121, 122)


@pytest.fixture(autouse=True)
def settings_stay():
    filters = list(warnings.filters)
    truncated, pixels = ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS
    yield
    assert truncated == ImageFile.LOAD_TRUNCATED_IMAGES
    assert pixels == Image.MAX_IMAGE_PIXELS
    assert list(warnings.filters) == filters


@pytest.fixture
def quarters():
    """Four coloured quarters: each way of turning it gives another picture."""
    image = Image.new("RGB", (64, 32))
    for colour, corner in zip((RED, GREEN, BLUE, GRAY), ((0, 0), (32, 0), (0, 16), (32, 16)), strict=True):
        image.paste(colour, (*corner, corner[0] + 32, corner[1] + 16))
    return image


def same(image, expected, within=0):
    assert image.mode == "RGB"
    assert image.size == expected.size
    difference = np.asarray(image).astype(int) - np.asarray(expected.convert("RGB")).astype(int)
    assert np.abs(difference).max() <= within


def noise(shape, high=256, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, high, shape, dtype=dtype)


# --- orientation

STORED = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose from upright to what is stored


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
def test_exif_orientation_is_applied_once(tmp_path, quarters, orientation, suffix):
    turn = STORED[orientation]
    stored = quarters if turn is None else quarters.transpose(Image.Transpose(turn))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned.{suffix}"
    options = {"png": {}, "tif": {}, "jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}
    stored.save(path, exif=exif, **options[suffix])
    same(open_image(path), quarters, within=4 if suffix == "jpg" else 0)
    with Image.open(path) as image:
        same(open_image(path), ImageOps.exif_transpose(image))


def test_meaningless_orientation_is_upright(tmp_path, quarters):
    exif = Image.Exif()
    exif[0x0112] = 9
    quarters.save(tmp_path / "a.png", exif=exif)
    same(open_image(tmp_path / "a.png"), quarters)


def test_damaged_exif_in_a_sound_picture_is_passed_over_quietly(tmp_path, quarters):
    path = tmp_path / "odd.jpg"
    entry = struct.pack("<HHII", 0x010E, 2, 5000, 4000)  # a description that lies beyond the data
    quarters.save(path, exif=b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 1) + entry)
    with pytest.warns(UserWarning, match="larger than file|Corrupt EXIF"), Image.open(path) as image:
        image.getexif()
    assert open_image(path).size == quarters.size
    quarters.save(path, exif=b"Exif\0\0nonsense")
    assert open_image(path).size == quarters.size


# --- modes


def test_rgb_is_untouched(tmp_path):
    image = Image.fromarray(noise((7, 9, 3)))
    image.save(tmp_path / "a.png")
    same(open_image(tmp_path / "a.png"), image)


@pytest.mark.parametrize("mode", ["L", "1"])
def test_gray_becomes_three_equal_channels(tmp_path, mode):
    image = Image.fromarray(noise((7, 9))).convert(mode)
    image.save(tmp_path / "a.png")
    same(open_image(tmp_path / "a.png"), image)


def test_palette(tmp_path, quarters):
    quarters.quantize(4).save(tmp_path / "a.png")
    same(open_image(tmp_path / "a.png"), quarters, within=1)


@pytest.mark.parametrize("transparency", [0, b"\x00\xff"])
def test_transparent_palette_entry_is_white(tmp_path, transparency):
    image = Image.new("P", (4, 2))
    image.putpalette([*RED, *GREEN])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", transparency=transparency)
    picture = open_image(tmp_path / "a.png")
    assert picture.getpixel((0, 0)) == (255, 255, 255)
    assert picture.getpixel((1, 0)) == GREEN


def test_transparent_colour_of_an_rgb_file_is_white(tmp_path, quarters):
    quarters.save(tmp_path / "a.png", transparency=RED)
    picture = open_image(tmp_path / "a.png")
    assert picture.getpixel((0, 0)) == (255, 255, 255)
    assert picture.getpixel((63, 0)) == GREEN


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_laid_over_white(tmp_path, mode):
    pixels = noise((16, 16, len(mode)))
    Image.merge(mode, [Image.fromarray(band) for band in np.moveaxis(pixels, -1, 0)]).save(tmp_path / "a.png")
    colour, alpha = pixels[..., :-1].astype(float), pixels[..., -1:] / 255
    expected = np.broadcast_to(colour * alpha + 255 * (1 - alpha), (16, 16, 3))
    assert np.abs(np.asarray(open_image(tmp_path / "a.png")) - expected).max() <= 1


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk(tmp_path, suffix):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / f"a.{suffix}")
    same(open_image(tmp_path / f"a.{suffix}"), Image.new("RGB", (16, 16), (255, 0, 0)), within=3)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "big-endian.tif", "a.pgm"])
def test_16_bits_are_scaled_to_8(tmp_path, name):
    values = noise((8, 8), 65536, np.uint16)
    values[0, :3] = 0, 65535, 257 * 100
    if name == "big-endian.tif":
        Image.frombytes("I;16B", (8, 8), values.astype(">u2").tobytes()).save(tmp_path / name)
    else:
        Image.fromarray(values).save(tmp_path / name)
    picture = np.asarray(open_image(tmp_path / name))
    assert (picture == np.round(values / 257)[..., None]).all()


@pytest.mark.parametrize("pixels", [np.full((2, 2), 70000, np.int32), np.full((2, 2), 0.5, np.float32)])
def test_pixels_of_unknown_range_are_refused(tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    with pytest.raises(ImageError, match="save it with 8 or 16 bits"):
        open_image(tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_animation_gives_its_first_frame(tmp_path, suffix):
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], **options)
    same(open_image(tmp_path / f"a.{suffix}"), frames[0], within=1)


# --- what cannot be read


def reason(path):
    with pytest.raises(ImageError) as caught:
        open_image(path)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_truncated_file(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise((64, 64, 3))).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "damaged" in reason(path) or "format" in reason(path)
    if suffix == "jpg":
        assert "truncated" in reason(path)


def test_not_a_picture(tmp_path):
    (tmp_path / "text.jpg").write_text("Dear photograph,\n" * 50)
    assert "not a picture" in reason(tmp_path / "text.jpg")
    (tmp_path / "empty.jpg").touch()
    assert reason(tmp_path / "empty.jpg") == "an empty file"
    (tmp_path / "x.jpg").mkdir()
    assert reason(tmp_path / "x.jpg") == "a folder, not a picture file"
    assert reason(tmp_path / "gone.jpg") == "No such file or directory"


def test_formats_that_start_other_programs_are_refused(tmp_path):
    path = tmp_path / "a.jpg"
    Image.new("RGB", (8, 8)).save(path, format="EPS")
    assert "not a picture" in reason(path)


def png_header(width, height):
    """A PNG of which only the header is real, as bombs have it."""
    data = io.BytesIO()
    Image.new("L", (1, 1)).save(data, format="PNG")
    content = bytearray(data.getvalue())
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


@pytest.mark.parametrize("size", [(14_000, 14_000), (60_000, 60_000), (1, 1_000_001), (100_000_000, 1)], ids=str)
def test_bomb_is_refused_before_it_is_decoded(tmp_path, size):
    (tmp_path / "bomb.png").write_bytes(png_header(*size))
    assert "too large" in reason(tmp_path / "bomb.png")


def test_own_limit_holds_where_the_caller_dropped_pillows(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", None)
        (tmp_path / "bomb.png").write_bytes(png_header(14000, 14000))
        assert "14000 x 14000" in reason(tmp_path / "bomb.png")


def test_large_photograph_below_the_limit_is_read_without_pillows_warning(tmp_path, monkeypatch, quarters):
    quarters.save(tmp_path / "a.png")
    with monkeypatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 32 - 1)
        with pytest.warns(Image.DecompressionBombWarning), Image.open(tmp_path / "a.png"):
            pass
        same(open_image(tmp_path / "a.png"), quarters)


def test_random_damage_is_never_another_exception(tmp_path, quarters):
    rng = np.random.default_rng(0)
    path = tmp_path / "a"
    for format_ in ("JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP", "PPM"):
        data = io.BytesIO()
        quarters.save(data, format=format_)
        for _ in range(30):
            content = bytearray(data.getvalue())
            for place in rng.integers(0, len(content), 8):
                content[place] = rng.integers(256)
            path.write_bytes(content)
            try:
                assert open_image(path).mode == "RGB"
            except ImageError as error:
                assert str(path) in str(error)  # noqa: PT017 (some damage is harmless)


def test_threads_leave_the_warning_filters_alone(tmp_path, quarters):
    quarters.save(tmp_path / "a.png")
    threads = [threading.Thread(target=lambda: [open_image(tmp_path / "a.png") for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_image(tmp_path / "a.png")
    for thread in threads:
        thread.join()
    open_image(tmp_path / "a.png")
    assert decode._MUTE not in warnings.filters


def test_a_name_that_is_not_utf8_is_a_reason(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "plain.png")
    strange = misnamed(tmp_path, tmp_path / "plain.png")
    with pytest.raises(ImageError) as error:
        open_image(strange)
    assert str(error.value) == f"{tmp_path}/caf\\xe9.png: its name is not UTF-8: rename it"
    [batch] = stream([strange, tmp_path / "plain.png"], lambda image: torch.zeros(3, 1, 1), batch_size=2)
    assert batch.indices.tolist() == [1]
    assert batch.failures[0].reason == "its name is not UTF-8: rename it"


def test_only_the_bytes_that_have_the_hash_are_decoded(tmp_path):
    path = tmp_path / "red.png"
    Image.new("RGB", (2, 2), "red").save(path)
    known = hashlib.sha256(path.read_bytes()).hexdigest()
    assert open_image(path, known).getpixel((0, 0)) == (255, 0, 0)
    Image.new("RGB", (2, 2), "blue").save(path)
    with pytest.raises(ImageError, match=r"red\.png: its contents were changed meanwhile"):
        open_image(path, known)
