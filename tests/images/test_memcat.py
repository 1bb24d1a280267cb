from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from memviz.errors import ImageError
from memviz.images.memcat import memcat

CSV = """,image_file,category,subcategory,current_height,current_width,source,searched_label,resize_factor,H,FA,n_resp,\
memorability_wo_fa_correction,memorability_w_fa_correction
1,0012.jpg,animal,wild boar,400,500,imagenet,boar,1,80,10,100,0.8,0.7
2,NA.png,food,banana,400,500,coco,banana,0.5,50,5,100,0.5,0.45
"""
SHARED = Path(__file__).parents[3] / "shared/memorability/memoir_w_memcat.csv"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "memcat_image_data.csv").write_text(CSV)
    return tmp_path


def test_hit_rate_and_corrected(folder):
    table = memcat(folder)
    assert list(table) == ["path", "score", "source", "category", "file"]
    assert table["score"].tolist() == [0.8, 0.5]
    assert table["file"].tolist() == ["animal/wild boar/0012.jpg", "food/banana/NA.png"]
    assert table["path"][1] == f"{folder}/images/food/banana/NA.png"
    assert table["category"].tolist() == ["animal", "food"]
    assert set(table["source"]) == {"memcat"}
    assert table.attrs["dataset"]["target"] == "memorability_wo_fa_correction"
    corrected = memcat(folder, target="corrected")
    assert corrected["score"].tolist() == [0.7, 0.45]
    assert corrected.attrs["dataset"]["target"] == "memorability_w_fa_correction"


@pytest.mark.parametrize("place", ["data", "MemCat_data"])
def test_layouts(folder, place):
    (folder / place).mkdir()
    (folder / "memcat_image_data.csv").rename(folder / place / "memcat_image_data.csv")
    assert len(memcat(folder)) == 2
    (folder / "images").rmdir()
    (folder / "MemCat_images/MemCat").mkdir(parents=True)
    assert memcat(folder)["path"][1] == f"{folder}/MemCat_images/MemCat/food/banana/NA.png"


@pytest.mark.parametrize("missing", ["images", "memcat_image_data.csv"])
def test_other_layout_shows_the_expected_one(folder, missing):
    (folder / missing).rename(folder / "elsewhere")
    with pytest.raises(ImageError, match=r"(?s)not laid out as MemCat.*<category>/<subcat.*data\.csv"):
        memcat(folder)


def test_errors(folder):
    with pytest.raises(ImageError, match="'hit_rate' or 'corrected'"):
        memcat(folder, target="hits")
    (folder / "memcat_image_data.csv").write_text("image_file,category\na.jpg,food\n")
    with pytest.raises(ImageError, match="no column subcategory, memorability_wo_fa_correction"):
        memcat(folder)


@pytest.mark.shared
def test_real_columns(tmp_path):
    if not SHARED.exists():
        pytest.skip(f"{SHARED} is not there: 1,000 real rows of MemCat")
    (tmp_path / "images").mkdir()
    (tmp_path / "memcat_image_data.csv").write_bytes(SHARED.read_bytes())
    table, real = memcat(tmp_path), pd.read_csv(SHARED)
    assert len(table) == len(real) == 1000
    assert sorted(set(table["category"])) == ["animal", "food", "landscape", "sports", "vehicle"]
    assert np.abs(table["score"] - real["H"] / real["n_resp"]).max() < 1e-12
    corrected = memcat(tmp_path, target="corrected")
    assert np.abs(corrected["score"] - (real["H"] - real["FA"]) / real["n_resp"]).max() < 1e-12
    assert table["file"][0] == "vehicle/pleasure boat/000000003832.jpg"
