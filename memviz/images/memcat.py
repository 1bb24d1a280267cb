"""MemCat, a category-based image set quantified on memorability.

Layout, with the archives' folders or as the paper's code has them::

    memcat/                                     memcat/
    ├── images/                                 ├── MemCat_images/MemCat/
    │   └── animal/bear/<file> ...              │   └── animal/bear/<file> ...
    └── memcat_image_data.csv (or in data/)     └── MemCat_data/memcat_image_data.csv

The CSV has an index column, then `image_file`, `category`, `subcategory`, `current_height`, `current_width`, `source`,
`searched_label`, `resize_factor`, `H` (hits), `FA` (false alarms), `n_resp` (responses),
`memorability_wo_fa_correction` = H / n_resp and `memorability_w_fa_correction` = (H - FA) / n_resp.
Columns are found by name.

Counts: 10,000 photographs, 2,000 in each of the categories animal, food, landscape, sports and vehicle, from ImageNet,
COCO, SUN and Open Images; about 99 responses a photograph. The Spearman correlation between the scores of two
halves of the participants is 0.78: a model's limit.

Citation: L. Goetschalckx, J. Wagemans. MemCat: a new category-based image set quantified on memorability. PeerJ
7:e8169, 2019. doi:10.7717/peerj.8169

Licence: we know of no licence text; see the page. The photographs keep the terms of their sources.

How to get it: https://gestaltrevision.be/projects/memcat/. memviz contains none of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import pandas as pd

from memviz.errors import ImageError
from memviz.images.scored import read_columns, scored

Target = Literal["hit_rate", "corrected"]
COLUMN: dict[str, str] = {"hit_rate": "memorability_wo_fa_correction", "corrected": "memorability_w_fa_correction"}
TABLES = tuple(f"{folder}memcat_image_data.csv" for folder in ("", "data/", "MemCat_data/"))
PICTURES = ("images", "MemCat_images/MemCat")
EXPECTED = """
    {folder}/
    ├── images/ (or MemCat_images/MemCat/)
    │   └── <category>/<subcategory>/<image_file> ...
    └── memcat_image_data.csv (or in data/ or MemCat_data/)"""
CITATION = (
    "Goetschalckx, Wagemans: MemCat: a new category-based image set quantified on memorability. PeerJ 7:e8169, 2019. "
    "doi:10.7717/peerj.8169"
)


def memcat(folder: str | Path, target: Target = "hit_rate") -> pd.DataFrame:
    """The photographs and scores of MemCat, which lies in `folder`, in the order of its CSV.

    The score is the share of hits, as in the paper's code, or with `target="corrected"` that of hits less false alarms.

    Raises `ImageError` for another target, another layout, or a CSV without the columns that are needed.

    >>> folder = getfixture("tmp_path")
    >>> (folder / "images").mkdir()
    >>> columns = "image_file,category,subcategory,memorability_wo_fa_correction"
    >>> _ = (folder / "memcat_image_data.csv").write_text(f"{columns}\\n3.jpg,animal,bear,0.8\\n")
    >>> memcat(folder)[["file", "category", "score"]].values.tolist()
    [['animal/bear/3.jpg', 'animal', 0.8]]
    """
    folder = Path(folder)
    if target not in get_args(Target):
        raise ImageError(f"MemCat has no target {target!r}: give 'hit_rate' or 'corrected'.")
    data = _find_first(folder, TABLES)
    pictures = _find_first(folder, PICTURES)
    given = read_columns(folder / data, ["image_file", "category", "subcategory", COLUMN[target]])
    return scored(
        folder,
        pictures,
        files=given["category"] + "/" + given["subcategory"] + "/" + given["image_file"],
        scores=given[COLUMN[target]],
        sources="memcat",  # the CSV's own column source is where MemCat took the photograph from
        categories=given["category"],
        dataset={"name": "memcat", "target": COLUMN[target], "citation": CITATION},
    )


def _find_first(folder: Path, candidates: tuple[str, ...]) -> str:
    for candidate in candidates:
        if (folder / candidate).exists():
            return candidate
    raise ImageError(
        f"{folder} is not laid out as MemCat is (there is no {' or '.join(candidates)}). "
        f"Expected:{EXPECTED.format(folder=folder)}"
    )
