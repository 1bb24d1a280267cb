from __future__ import annotations

import dataclasses
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib
import pytest
from fakes import CARD, GROUP, page, page_of
from PIL import Image

import memviz
from memviz.gallery import load_recipe
from memviz.gallery.figure import save_figures
from memviz.index import Index
from memviz.rendering import RenderConfig

GALLERIES = Path(__file__).parents[2] / "galleries"


@pytest.fixture(scope="module", params=["figure14", "figure15", "alexnet-vs-resnet"])
def built(
    request: pytest.FixtureRequest, index: Index, renders: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    recipe = load_recipe(GALLERIES / f"{request.param}.toml")
    recipe = replace(recipe, render=RenderConfig(size=32, steps=128))
    before = dict(matplotlib.rcParams)
    page = memviz.build_gallery(recipe, out=tmp_path_factory.mktemp("out") / "g", index=index, renders=renders)
    assert dict(matplotlib.rcParams) == before
    return Path(page).parent


def test_png_is_180_mm_wide_at_300_dpi(built: Path) -> None:
    with Image.open(built / "figure.png") as image:
        assert image.width == 2126
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_pdf_embeds_its_fonts_as_type_42(built: Path) -> None:
    content = (built / "figure.pdf").read_bytes()
    assert b"/CIDFontType2" in content
    assert b"/FontFile2" in content
    assert b"/Type3" not in content


def test_a_plate_of_metres_is_coarser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memviz.gallery.figure._HIGHEST", 900)
    Image.new("RGB", (16, 16)).save(tmp_path / "images.png")
    card = dataclasses.replace(CARD, picture="images.png")
    page = page_of(*[card] * 40)
    save_figures(page, tmp_path)
    with Image.open(tmp_path / "figure.png") as image:
        assert 890 <= image.height <= 900
        assert image.info["dpi"][0] < 150


def test_pyplot_is_not_touched() -> None:
    code = "import sys, memviz.gallery.figure; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_a_checkup_found_stands_below_the_plate(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "images.png")
    group = dataclasses.replace(GROUP, cards=(dataclasses.replace(CARD, picture="images.png"),))
    heights = []
    for each in (group, dataclasses.replace(group, finding="weights at their random start")):
        save_figures(page(each), tmp_path)
        with Image.open(tmp_path / "figure.png") as image:
            heights.append(image.height)
            below = image.convert("L").crop((0, heights[0], image.width, image.height))
    assert heights[1] > heights[0]
    assert below.getextrema()[0] < 128
