"""What widgets hold, say and refuse, without a front end."""

import base64
import gc
import importlib
import io
import re
import shutil
import sys
from collections import Counter
from dataclasses import replace

import fakes
import ipywidgets
import numpy as np
import pytest
from PIL import Image

import memviz
from memviz.errors import LayerError, NotebookError, StoreError
from memviz.explanation import Drivers, Label
from memviz.explanation.labels import labels_folder
from memviz.index import load_index
from memviz.layers.unit import Unit
from memviz.notebook import compare, photograph, strip, units
from memviz.notebook.embed import Cell, data_uri, sheets

LAYER = "alexnet.conv4"


@pytest.fixture(autouse=True)
def closed():
    """ipywidgets keeps every widget until it is closed."""
    yield
    ipywidgets.Widget.close_all()


def pictures(html):
    found = re.findall(r"data:image/jpeg;base64,([A-Za-z0-9+/=]+)", html)
    return [Image.open(io.BytesIO(base64.b64decode(each))).convert("RGB") for each in found]


def listed(widget):
    return [int(name.rpartition(":")[2]) for name in re.findall(r'data-unit="([^"]+)"', widget._body)]


def all_four(index, renders, other):
    return {
        "strip": strip(index, LAYER, renders),
        "units": units(index, LAYER, renders),
        "compare": compare(index, f"{LAYER}:2", "alexnet.conv5:3", renders, other=other),
        "photograph": photograph(fakes.explanation(), index, renders),
    }


def test_a_strip_shows_the_unit_that_is_chosen(index, renders):
    widget = strip(index, "alexnet@4", renders)
    assert (widget.unit, widget.other) == (f"{LAYER}:0", "")
    assert listed(widget) == list(range(fakes.CHANNELS))
    before = widget._detail
    widget.unit = f"{LAYER}:5"
    assert widget._detail != before
    assert f'aria-label="Unit {LAYER}:5 of resmem"' in widget._detail
    record = memviz.rendering.load_renders(renders / LAYER).units[5]
    shown = pictures(widget._detail)
    with Image.open(renders / LAYER / record.file) as drawn:
        assert np.abs(np.asarray(shown[0], int) - np.asarray(drawn.convert("RGB"), int)).mean() < 8
    assert len(shown) == 1 + 9
    crops = index.crops(f"{LAYER}:5", 9, 120)
    assert np.abs(np.asarray(shown[3], int) - np.asarray(crops[2], int)).mean() < 8
    assert "+0.06" in widget._detail  # its drive
    assert repr(widget).startswith("memviz: resmem alexnet.conv4: 12 units, by number. alexnet.conv4:5: ")


def test_each_small_picture_is_its_units(index, renders):
    widget = strip(index, LAYER, renders, order="drive")
    [sheet] = pictures(widget._body)
    assert sheet.size == (12 * 64, 64)
    for place, channel in enumerate(listed(widget)):
        face = np.asarray(sheet.crop((place * 64, 0, place * 64 + 64, 64)), int)
        if channel == fakes.DEAD:
            assert (face[:, 2:-2] > 240).all()  # white, which the front end covers
            continue
        with Image.open(renders / LAYER / f"{LAYER}-{channel:04d}.png") as drawn:
            assert np.abs(face - np.asarray(drawn.convert("RGB").resize((64, 64)), int)).mean() < 10


def test_the_orders_of_a_strip(index):
    assert listed(strip(index, LAYER, order="drive")) == [5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 6]
    stats = index.stats(LAYER)
    selectivity = (stats["peak"] - stats["mean"]) / stats["std"].where(stats["std"] > 0, np.inf)
    assert listed(strip(index, LAYER, order="selectivity")) == np.argsort(-selectivity, kind="stable").tolist()
    with pytest.raises(NotebookError, match=r"no order 'beauty'. The orders are: number, selectivity, drive"):
        strip(index, LAYER, order="beauty")
    shutil.rmtree(index.path / "drivers")
    with pytest.raises(NotebookError, match="survey it first"):
        strip(index, LAYER, order="drive")


def test_a_dead_unit_and_one_that_was_not_drawn(index, renders):
    widget = units(index, "resnet.layer2.3", renders)
    widget.unit = f"resnet.layer2.3:{fakes.DEAD}"
    assert "Dead unit" in widget._detail
    assert "Dead: nothing changes its activation" in widget._detail
    assert "no photograph moves it" in widget._detail
    widget.unit = "resnet.layer2.3:7"
    assert "<b>Not drawn</b>" in widget._detail
    assert "the best photograph" not in repr(widget)  # no verdict about a picture that there is not
    partly = strip(index, "resnet.layer2.3", renders)
    assert "or, of those that have none" in partly._body
    assert partly._body.count(", never varies") == 2  # told to the eye and to the ear
    plain = strip(index, LAYER)
    assert "Each small picture is what a unit saw" in plain._body


def test_a_unit_that_is_not_shown_is_refused(index, renders):
    widget = strip(index, LAYER, renders)
    before = widget.unit, widget._detail
    for wrong in ("alexnet.conv4:12", "alexnet.conv5:1", "<script>", ""):
        with pytest.raises(LayerError, match=r"not among the 12 units of .* alexnet\.conv4:"):
            widget.unit = wrong
    with pytest.raises(LayerError, match="There is no unit to choose"):
        widget.other = f"{LAYER}:1"
    assert (widget.unit, widget._detail) == before
    with pytest.raises(LayerError, match=r"Close names: .*alexnet\.conv4"):
        strip(index, "alexnet.conv")
    with pytest.raises(LayerError, match="0 to 11"):
        units(index, [f"{LAYER}:1", f"{LAYER}:99"])
    with pytest.raises(NotebookError, match="No unit to show"):
        units(index, [])


def test_units_of_several_layers_are_turned_over_in_the_order_given(index, renders):
    chosen = ["resnet.layer2.3:5", Unit(LAYER, 2), "resnet.layer2.3:5"]
    widget = units(index, chosen, renders)
    assert re.findall(r'<option value="([^"]+)"', widget._body) == ["resnet.layer2.3:5", f"{LAYER}:2"]
    assert widget.unit == "resnet.layer2.3:5"
    assert "resmem 2 layers: 2 units" in widget._body
    assert "resnet.layer2.3: 1 unit" in units(index, "resnet.layer2.3:5")._body


def test_what_may_be_compared(index, other_index, renders):
    alike = compare(index, f"{LAYER}:2", f"{LAYER}:3", renders)
    assert "Both are units of one layer" in alike._detail
    kept = [set(index.top(f"{LAYER}:{channel}")["image"]) for channel in (2, 3)]
    assert f"Of the 9 photographs that excite each most, they share {len(kept[0] & kept[1])}" in alike._detail
    alike.other = f"{LAYER}:2"
    assert "each most, they share 9" in alike._detail
    apart = compare(index, f"{LAYER}:2", "resnet.layer3.20:3", renders)
    assert "different layers, whose activations may not be compared as numbers" in apart._detail
    assert "the first sees 131 px, the second 811 px, the whole picture" in apart._detail
    assert apart._detail.count('role="group"') == 2


def test_two_models_are_compared_by_what_has_no_unit(index, other_index, renders):
    widget = compare(index, f"{LAYER}:2", f"{LAYER}:3", renders, other=other_index)
    assert "different networks, whose activations may not be compared as numbers" in widget._detail
    assert "of resmem" in widget._detail
    assert "of memnet-caffe" in widget._detail
    assert "not drawn" in widget._detail  # the renders are of the first network
    with pytest.raises(StoreError, match="other weights"):
        compare(index, f"{LAYER}:2", f"{LAYER}:3", other=other_index, other_renders=renders)


def test_an_explained_photograph(index, renders):
    found = fakes.explanation()
    widget = photograph(found, index, renders)
    assert widget.unit == "resnet.fc:1"
    assert "adds +0.500 to the logit" in widget._detail
    assert "card" not in widget._detail.replace('class="cards"', "")  # this index does not watch the classes
    widget.unit = "alexnet.conv4:2"
    assert f'aria-label="Unit {LAYER}:2 of resmem"' in widget._detail
    assert "adds +0.300" in widget._detail
    assert "no effect on the score" in widget._body
    assert len(pictures(widget._body)) == 2
    assert 'type="range"' in widget._body
    assert 'type="range"' not in widget.to_html()
    plain = photograph(found)
    plain.unit = "alexnet.conv4:2"
    assert "adds +0.300" in plain._detail
    with pytest.raises(NotebookError, match="give the index"):
        photograph(found, renders=renders)
    with pytest.raises(StoreError, match="no picture"):
        photograph(replace(found, picture=None))
    with pytest.raises(StoreError, match="other weights"):
        photograph(replace(found, weights="ab" * 32), index)
    nothing = photograph(replace(found, named=(), layers=()))
    assert (nothing.unit, nothing._detail) == ("", "")


@pytest.mark.parametrize("make", [strip, units])
def test_renders_of_other_weights_are_refused(other_index, renders, make):
    with pytest.raises(StoreError, match="other weights"):
        make(other_index, LAYER, renders)


def test_photographs_that_were_moved_are_told_kindly_and_found_again(index, tmp_path):
    shutil.move(index.photos, tmp_path / "moved")
    for name, widget in {"strip": strip(index, LAYER), "units": units(index, LAYER)}.items():
        widget.unit = f"{LAYER}:5"
        assert "9 of its 9 best photographs cannot be read" in widget._detail
        assert "load_index(folder, photos=...)" in widget._detail
        assert "best photograph <b>" in widget._detail  # its figures are kept
        assert str(tmp_path) not in widget.to_html() + widget._body, name
    assert "Of 11 units there is no small picture" in strip(index, LAYER)._body
    found = load_index(index.path, tmp_path / "moved")
    assert "cannot be read" not in strip(found, LAYER)._body + units(found, LAYER)._detail


def test_a_photograph_that_was_replaced_is_not_shown(index):
    best = index.top(f"{LAYER}:5", 1)["path"][0]
    Image.new("RGB", (90, 90)).save(index.photos / best)
    widget = units(index, f"{LAYER}:5")
    assert "1 of its 9 best photographs" in widget._detail
    assert len(pictures(widget._detail)) == 8


def test_a_damaged_render_is_told(index, renders):
    widget = units(index, LAYER, renders)
    (renders / LAYER / f"{LAYER}-0005.png").write_bytes(b"no picture")
    with pytest.raises(StoreError, match="damaged"):
        widget.unit = f"{LAYER}:5"
    assert "cannot be shown (StoreError)" in widget._detail
    assert str(renders) not in widget._detail
    widget.unit = f"{LAYER}:6"
    assert "cannot be shown" not in widget._detail


def test_without_a_front_end_it_is_static(index, renders, other_index, tmp_path):
    for name, widget in all_four(index, renders, other_index).items():
        data, _ = widget._repr_mimebundle_()
        assert set(data) == {"text/plain", "text/html", "application/vnd.jupyter.widget-view+json"}
        html = data["text/html"]
        assert len(pictures(html)) >= 2, name
        for each in ("<script", "<select", "<button", "<input", 'role="option"', "tabindex"):
            assert each not in html, (name, each)
        assert not re.search(r"(?:src|href)=\"(?!data:)", html)
        assert "http" not in html
        for text in (html, data["text/plain"], str(widget.get_state())):
            assert str(tmp_path) not in text
            assert str(index.path.parent) not in text
        assert "#808080" not in html


def test_a_static_strip_says_which_units_its_rows_are(index):
    html = strip(index, LAYER, order="drive").to_html()
    assert "5, 4, 3, 2, 1 (never varies), 0, 11, 10, 9, 8, 7, 6" in html
    assert f"Small pictures of 12 units of {LAYER}, in rows of 12" in html


def test_what_others_wrote_is_escaped(index, tmp_path):
    evil = '<script>alert("1")</script>'
    labels = labels_folder(index)
    labels.mkdir(parents=True)
    (labels / "labels.toml").write_text(f"[[label]]\nunit = '{LAYER}:0'\nlabel = '{evil}'\n")
    found = fakes.explanation(photograph=f"{evil}.jpg")
    made = [strip(index, LAYER), units(index, LAYER), compare(index, f"{LAYER}:0", f"{LAYER}:1"), photograph(found)]
    for widget in made:
        html = widget._body + widget._detail + widget.to_html()
        assert "&lt;script&gt;alert" in html
        assert "<script" not in html


def test_file_names_are_escaped(tmp_path):
    pictures = fakes.photos(tmp_path / "pictures")
    named = [path.rename(path.with_name(f"<b onclick='x'>{path.name}")) for path in pictures]
    html = units(load_index(fakes.index(tmp_path / "index", named)), LAYER)._detail
    assert "&lt;b onclick=&#39;x&#39;&gt;wave" in html
    assert "<b onclick" not in html


def index_of(folder, monkeypatch, channels):
    """An index of one layer with so many units."""
    monkeypatch.setattr(fakes, "CHANNELS", channels)
    layer = fakes._layer(LAYER, 13, 16, 131, 17)
    monkeypatch.setattr(fakes, "layers", lambda: [layer])
    return load_index(fakes.index(folder / "index", fakes.photos(folder / "pictures")))


def test_a_layer_with_one_unit(tmp_path, monkeypatch):
    widget = strip(index_of(tmp_path, monkeypatch, 1), LAYER)
    assert listed(widget) == [0]
    assert "alexnet.conv4: 1 unit<" in widget._body
    assert pictures(widget._body)[0].size == (64, 64)


def test_four_thousand_units_stay_below_ten_megabytes(tmp_path, monkeypatch):
    count = 4096
    index = index_of(tmp_path, monkeypatch, count)
    widget = strip(index, LAYER)
    assert len(listed(widget)) == count
    assert len(pictures(widget._body)) == 16
    assert len(widget._body) < 10e6
    assert len(widget.to_html()) < 10e6
    assert len(units(index, LAYER)._body) < 1e6


def test_noise_is_the_worst_of_pictures_and_still_small():
    generator = np.random.default_rng(0)
    faces = [Image.fromarray(generator.integers(0, 255, (48, 48, 3), dtype=np.uint8)) for _ in range(64)] * 8
    cells = [Cell(f"conv:{channel}", channel, "", "") for channel in range(512)]
    made = sheets(cells, faces)
    assert len(made) == 2
    assert sum(len(each.uri) for each in made) / 512 * 4096 < 12e6
    assert [row[0].channel for row in made[1].rows][:2] == [256, 272]


def test_a_widget_keeps_nothing_of_other_layers(index, renders):
    labels = labels_folder(index)
    labels.mkdir(parents=True)
    (labels / "labels.csv").write_text(f"unit,label\n{LAYER}:0,stripes\nresnet.layer2.3:0,dots\n")

    def kept():
        gc.collect()
        return Counter(kind.__name__ for kind in map(type, gc.get_objects()) if kind in (Drivers, Label))

    before = kept()
    widgets = [strip(index, LAYER, renders) for _ in range(3)]
    assert kept() - before == Counter(Label=3)
    assert all("<b>stripes</b>" in each._detail for each in widgets)


def test_two_at_once_do_not_disturb_one_another(index, renders):
    one, two = strip(index, LAYER, renders), strip(index, "resnet.layer2.3", renders)
    one.unit, two.unit = f"{LAYER}:3", "resnet.layer2.3:5"
    fresh = strip(index, LAYER, renders)
    fresh.unit = f"{LAYER}:3"
    assert one._detail == fresh._detail
    assert two.unit == "resnet.layer2.3:5"


def test_a_pictures_comment_is_not_embedded():
    picture = Image.new("RGB", (20, 20))
    picture.info["comment"] = b"by somebody, at home"
    assert b"somebody" not in base64.b64decode(data_uri(picture, 20).partition(",")[2])


def test_without_anywidget_the_room_loads_and_says_what_to_install(index, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("memviz.notebook")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "anywidget", None)
    room = importlib.import_module("memviz.notebook")
    with pytest.raises(NotebookError, match=r"pip install 'memviz\[notebook\]'"):
        room.strip(index, LAYER)
