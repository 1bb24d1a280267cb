"""LaMem, the Large-scale Image Memorability data set.

Layout, in the folder that the archive `lamem.tar.gz` unpacks to::

    lamem/
    ├── images/00000001.jpg ...
    └── splits/train_1.txt, val_1.txt, test_1.txt, ... test_5.txt    lines: <file> <score>

Counts: 58,741 photographs; each of the five random splits has 45,000 for training, 3,741 for validation and 10,000 for
testing. The photographs come from MIR Flickr, AVA, the affective images set, three saliency sets, a Flickr popularity
set, an anomaly set and one of object attributes (the paper, Data Sources).

Scores: how often people recognized the photograph when it came again; the lists do not say with how many responses, nor
how many false alarms there were. 236 photographs have a score of exactly 0, and the next lowest is 0.2, which the paper
calls the lowest of the data set: the zeros stand for missing scores, and are left out unless asked for. Of the other
58,505 the mean is 0.755, the highest 0.981. The Spearman correlation between the scores of two halves of the
participants is 0.67 (the paper, Data Sources): a model's limit.

Citation: A. Khosla, A. S. Raju, A. Torralba, A. Oliva. Understanding and Predicting Image Memorability at a Large
Scale. International Conference on Computer Vision (ICCV) 2015. doi:10.1109/ICCV.2015.275

Licence: we know of no licence text; ask when requesting access. The photographs keep the terms of their sources.

How to get it: http://memorability.csail.mit.edu; access is restricted now, so write to the authors. memviz contains
none of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import pandas as pd

from memviz.errors import ImageError
from memviz.images.scored import names, scored
from memviz.images.split import Split, Subset

Zeros = Literal["drop", "keep"]
LISTS: dict[Subset, str] = {"train": "train", "validation": "val", "test": "test"}
SPLITS = range(1, 6)
EXPECTED = """
    {folder}/
    ├── images/00000001.jpg ...
    └── splits/train_1.txt, val_1.txt, test_1.txt, ... test_5.txt    lines: <file> <score>"""
CITATION = (
    "Khosla, Raju, Torralba, Oliva: Understanding and Predicting Image Memorability at a Large Scale. ICCV 2015. "
    "doi:10.1109/ICCV.2015.275"
)


def lamem(folder: str | Path, split: int | None = None, zeros: Zeros = "drop") -> pd.DataFrame:
    """The photographs and scores of LaMem, whose `images` and `splits` lie in `folder`, in the order of the lists.

    A `split` from 1 to 5 adds the column `subset`: "train", "validation" or "test". Without one, the photographs
    are those of split 1, which are all. Scores of exactly 0 stand for missing ones: `zeros="keep"` keeps them;
    otherwise `attrs["dataset"]` says under `zeros_left_out` how many there were.

    Raises `ImageError` for another layout, a line that is not a file and a score, or a photograph listed twice.

    >>> folder = getfixture("tmp_path")
    >>> for name in ("images", "splits"):
    ...     (folder / name).mkdir()
    >>> for number, name in enumerate(LISTS.values()):
    ...     _ = (folder / "splits" / f"{name}_1.txt").write_text(f"0000000{number}.jpg 0.7{number}")
    >>> lamem(folder, split=1)[["file", "score", "subset"]].values.tolist()
    [['00000000.jpg', 0.7, 'train'], ['00000001.jpg', 0.71, 'validation'], ['00000002.jpg', 0.72, 'test']]
    """
    folder = Path(folder)
    if split is not None and split not in SPLITS:
        raise ImageError(f"LaMem has no split {split}: give one from 1 to 5, or None for all photographs.")
    if zeros not in get_args(Zeros):
        raise ImageError(f"zeros={zeros!r} is not possible: give 'drop' or 'keep'.")
    if not (folder / "images").is_dir():
        raise _layout_error(folder, "there is no folder images")
    listed = pd.concat([_read_list(folder, subset, split or 1) for subset in LISTS], ignore_index=True)
    missing = (pd.to_numeric(listed["score"], errors="coerce") == 0) & (zeros == "drop")
    listed = listed[~missing].reset_index(drop=True)
    dataset = {"name": "lamem", "target": "memorability", "citation": CITATION, "zeros_left_out": int(missing.sum())}
    table = scored(
        folder, "images", files=listed["file"], scores=listed["score"], sources="lamem", categories="", dataset=dataset
    )
    if split is not None:
        table["subset"] = listed["subset"]
    return table


def lamem_split(folder: str | Path, number: int) -> Split:
    """One of LaMem's own five splits, of the photographs that have a score, as `lamem` reads them.

    Nobody published how they were drawn: the `Split`'s seed is the split's `number`, from 1 to 5, and its fractions are
    those of the photographs in its subsets. Raises `ImageError` as `lamem` does.

    >>> folder = getfixture("tmp_path")
    >>> for name in ("images", "splits"):
    ...     (folder / name).mkdir()
    >>> for number, name in enumerate(LISTS.values()):
    ...     _ = (folder / "splits" / f"{name}_1.txt").write_text(f"0000000{number}.jpg 0.7{number}")
    >>> lamem_split(folder, 1).validation
    ('lamem/00000001.jpg',)
    """
    table = lamem(folder, number)
    train, validation, test = (tuple(sorted(names(table[table["subset"] == subset]))) for subset in LISTS)
    count = len(table)
    return Split(number, (len(train) / count, len(validation) / count, len(test) / count), train, validation, test)


def _read_list(folder: Path, subset: Subset, split: int) -> pd.DataFrame:
    path = folder / "splits" / f"{LISTS[subset]}_{split}.txt"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise _layout_error(folder, f"splits/{path.name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ImageError(f"{path} is not a text file: {error}") from error
    rows = [line.rsplit(maxsplit=1) for line in lines]
    for number, row in enumerate(rows, start=1):
        if len(row) == 1:
            raise ImageError(f"{path}, line {number}: {row[0]!r} is not a file and a score, as in '00000001.jpg 0.75'.")
    return pd.DataFrame([row for row in rows if row], columns=["file", "score"], dtype=str).assign(subset=subset)


def _layout_error(folder: Path, found: str) -> ImageError:
    return ImageError(f"{folder} is not laid out as LaMem is ({found}). Expected:{EXPECTED.format(folder=folder)}")
