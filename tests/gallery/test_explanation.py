"""The page and the figure of an explained photograph, made from saved results alone."""

import json
from dataclasses import replace

import fakes
import numpy as np
import pytest
from PIL import Image

from memviz.artefacts import Manifest, claim
from memviz.errors import StoreError
from memviz.explanation.labels import Label
from memviz.explanation.record import KIND
from memviz.gallery.explanation import draw_map, explanation_page, explanations_page
from memviz.gallery.overlay import overlay
from memviz.layers.unit import Unit

UNITS = Unit("alexnet.conv4", 2), Unit("resnet.layer3.20", 2)
LABELS = {
    UNITS[0]: Label(UNITS[0], "stripes & dots", "own classes", figure=0.62, measure="correlation", threshold=0.4),
    UNITS[1]: Label(UNITS[1], None, "own classes", candidate="zebra", figure=0.2, measure="correlation", threshold=0.4),
}


def saved(folder, each, name="one"):
    manifest = Manifest("memviz-explanations", 1, each.model, each.weights, {}, {}, 0)
    claim(folder, manifest)
    claim(folder / name, replace(manifest, kind=KIND))
    each.save(folder / name)
    return folder / name


def test_the_page_says_what_was_found(tmp_path, index, renders):
    place = saved(tmp_path / "out", fakes.explanation())
    page = explanation_page(place, index=index, renders=renders, labels=LABELS)
    text = page.read_text()
    assert "<h1>Why a memorability of 0.700?</h1>" in text
    assert "a &lt;b&gt;.jpg" in text
    assert "<b>.jpg" not in text
    assert "higher than that of 42 % of the 12 photographs of the index" in text
    assert "more than the 1 % aimed at, although 32 steps were taken" in text
    assert "<code>alexnet</code> of these weights: weights at their random start; no effect on the score.</p>" in text
    assert "tench &#34;&lt;i&gt;&#34;" in text
    assert text.index("tench") < text.index("goldfish") < text.index("shark")
    assert "it falls from 0.700 to 0.600" in text
    assert "So it does not do what the map says." in text
    assert "stripes &amp; dots" in text
    assert "own classes, correlation .62 (above .40)" in text
    assert "zebra" not in text  # its figure is too low
    assert "No unit of this layer does." in text
    names = {path.name for path in (place / "images").iterdir()}
    # 9 crops of each of 3 units; the dead unit 1 has no render.
    assert len([name for name in names if "-top" in name]) == 27
    assert {name for name in names if name.endswith(".png")} == {"alexnet.conv4-0002.png", "resnet.layer3.20-0002.png"}
    for name in names:
        assert text.count(f'src="images/{name}"') == 1
    for name in ("photograph.png", "map.png", "figure.png", "figure.pdf", "explanation.json", "manifest.json"):
        assert f'"{name}"' in text
        assert (place / name).is_file()
    with Image.open(place / "figure.png") as figure:
        assert figure.width == 2126  # 180 mm at 300 dpi
    assert "http" not in text.replace("http-equiv", "")
    # the same again
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file() and path.suffix != ".lock"}
    explanation_page(place, index=index, renders=renders, labels=LABELS)
    assert {path: path.read_bytes() for path in before} == before


def test_without_index_and_renders_there_are_numbers(tmp_path):
    each = replace(fakes.explanation(), percentile=None, ranked=0, named=(), regions=(), findings={"alex": "untrained"})
    text = explanation_page(saved(tmp_path / "out", each)).read_text()
    assert "Percentile" not in text
    assert "<code>alex</code> of these weights: untrained. Its units are left out below." in text
    assert 'class="crops"' not in text
    assert "alexnet.<wbr>conv4:2" in text
    assert "The map marks nothing." in text


def test_the_start_page_has_the_highest_first(tmp_path):
    for name, score in (("low", 0.2), ("high", 0.9), ("unfinished", 0.5)):
        place = saved(tmp_path / "out", fakes.explanation(f"{name}.jpg", score, name), name)
        if name != "unfinished":
            explanation_page(place)
    text = explanations_page(tmp_path / "out").read_text()
    assert text.index('href="high/index.html"') < text.index('href="low/index.html"')
    assert "unfinished" not in text
    assert "2 photographs, the highest memorability first" in text
    (tmp_path / "out" / "high" / "explanation.json").write_text("{")
    with pytest.raises(StoreError, match="damaged"):
        explanations_page(tmp_path / "out")


def test_what_does_not_belong_together_is_refused(tmp_path, index, other_index, renders):
    place = saved(tmp_path / "out", fakes.explanation())
    with pytest.raises(StoreError, match="is of other weights than the explanation"):
        explanation_page(place, index=other_index)
    manifest = renders / "alexnet.conv4" / "manifest.json"
    text = manifest.read_text()
    try:
        manifest.write_text(json.dumps(json.loads(text) | {"weights": "2e" * 32}))
        with pytest.raises(StoreError, match="are of other weights"):
            explanation_page(place, index=index, renders=renders)
    finally:
        manifest.write_text(text)
    with pytest.raises(StoreError, match="There is no folder"):
        explanation_page(place, renders=tmp_path / "nowhere")
    with pytest.raises(StoreError):
        explanation_page(tmp_path / "out")
    assert not (place / "index.html").exists()


def test_colours_say_the_sign_and_the_photograph_is_seen():
    each = fakes.explanation()
    drawn = np.asarray(draw_map(each)).astype(int)
    grey = np.asarray(each.picture.convert("L")).astype(int)
    assert (drawn[2:18, 2:28, 0] > drawn[2:18, 2:28, 2]).all()  # red raises
    assert (drawn[60:78, 90:118, 2] > drawn[60:78, 90:118, 0]).all()  # blue lowers
    assert np.ptp(drawn[30:50, 50:70], axis=2).max() == 0  # nothing: the photograph in grey
    for part in (np.s_[30:50, 50:70], np.s_[2:18, 2:28]):
        assert np.corrcoef(drawn[part].sum(2).ravel(), grey[part].ravel())[0, 1] > 0.99
    outlined = np.asarray(draw_map(replace(each, regions=()))).astype(int)
    assert (drawn != outlined).any()
    # A map that is nothing everywhere is the photograph.
    plain = overlay(each.picture, np.zeros((5, 5), dtype=np.float32))
    assert np.ptp(np.asarray(plain), axis=2).max() == 0
