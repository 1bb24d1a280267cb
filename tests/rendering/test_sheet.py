import numpy as np
import pytest
from PIL import Image

from memviz.rendering.sheet import GAP, INK, LABEL, MARGIN, PAPER, QUIET, TILE, contact_sheet


def pictures(count, size=(20, 20)):
    return [Image.new("RGB", size, (255, 10 * place % 256, 0)) for place in range(count)]


def rgb(colour):
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def cell(sheet, place, columns, size=20, head=0):
    left = MARGIN + place % columns * (size + GAP)
    top = MARGIN + head + place // columns * (size + LABEL + GAP)
    return sheet.crop((left, top, left + size, top + size))


def marked(image, background):
    """The box of what differs from the background."""
    different = (np.asarray(image).astype(int) != background).any(axis=2)
    rows, columns = different.nonzero()
    return (columns.min(), rows.min(), columns.max(), rows.max()) if len(rows) else None


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (5, 3, 2), (9, 3, 3), (100, 8, 13)])
def test_pictures_stand_in_order(count, columns, rows):
    given = pictures(count)
    sheet = contact_sheet(given, [str(place) for place in range(count)])
    assert sheet.size == (
        2 * MARGIN + columns * (20 + GAP) - GAP,
        2 * MARGIN + rows * (20 + LABEL + GAP) - GAP,
    )
    for place, picture in enumerate(given):
        assert np.array_equal(np.asarray(cell(sheet, place, columns)), np.asarray(picture))


def test_each_label_stands_below_its_picture_inside_the_sheet():
    sheet = contact_sheet(pictures(4, (40, 40)), ["1048", "", "3", "4"], columns=2)
    assert sheet.size[0] == 2 * MARGIN + 80 + GAP
    for place, written in enumerate([True, False, True, True]):
        left = MARGIN + place % 2 * (40 + GAP)
        top = MARGIN + place // 2 * (40 + LABEL + GAP) + 40
        strip = sheet.crop((left, top, left + 40, top + LABEL + GAP // 2))
        box = marked(strip, rgb(PAPER))
        assert (box is not None) == written
        if box:
            assert box[3] < LABEL  # whole, above the next row
            assert box[2] < 39  # four digits fit below a picture


def test_long_labels_do_not_run_into_each_other():
    labels = ["alexnet.conv3:1 + 0.5 * alexnet.conv4:3", "Sum(Channel [a, 0] +\nDiversity [b])" + 20 * " and more", "x"]
    sheet = contact_sheet(pictures(3, (30, 30)), labels, columns=2)
    top = MARGIN + 30
    strip = np.asarray(sheet.crop((0, top, sheet.width, top + LABEL))) != rgb(PAPER)
    written = strip.any(axis=(0, 2)).nonzero()[0]
    assert written.max() < sheet.width - MARGIN + 2
    # Between the two labels there is a gap wider than any between words.
    assert np.diff(written).max() >= GAP
    below = sheet.crop((0, top + LABEL, sheet.width, top + LABEL + GAP))
    assert marked(below, rgb(PAPER)) is None


def test_a_long_title_is_whole():
    title = "resmem  resnet.layer3.20 of a model with a long name"
    sheet = contact_sheet(pictures(1), ["3"], title)
    head = sheet.crop((0, 0, sheet.width, MARGIN + 36))
    left, top, right, bottom = marked(head, rgb(PAPER))
    assert left >= MARGIN - 2
    assert right <= sheet.width - MARGIN
    assert top >= MARGIN
    assert bottom < MARGIN + 36
    assert right > sheet.width / 2
    assert np.array_equal(np.asarray(cell(sheet, 0, 1, head=40)), np.asarray(pictures(1)[0]))


def test_a_dead_unit_has_a_tile_that_says_so():
    sheet = contact_sheet([pictures(1, (60, 60))[0], "dead"], ["0", "1"])
    tile = cell(sheet, 1, 2, size=60)
    assert tile.getpixel((1, 1)) == tile.getpixel((58, 58)) == rgb(TILE)
    left, top, right, bottom = marked(tile, rgb(TILE))
    assert abs((left + right) / 2 - 30) < 3
    assert abs((top + bottom) / 2 - 30) < 6
    assert np.asarray(tile).min() < 160  # dark enough to read


def test_all_dead():
    sheet = contact_sheet(["dead", "dead"], ["0", "1"], "all dead")
    assert rgb(TILE) in {colour for _, colour in sheet.getcolors(100_000)}


def luminance(colour):
    values = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in rgb(colour))]
    return 0.2126 * values[0] + 0.7152 * values[1] + 0.0722 * values[2]


@pytest.mark.parametrize(("ink", "paper"), [(INK, PAPER), (QUIET, TILE)])
def test_contrast_is_at_least_that_of_wcag_aa(ink, paper):
    light, dark = sorted([luminance(ink), luminance(paper)], reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_a_label_each():
    with pytest.raises(ValueError, match="zip"):
        contact_sheet(pictures(2), ["only one"])
