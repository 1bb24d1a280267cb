import pandas as pd
import pytest
from helpers import write_noise

from memviz.errors import ImageError
from memviz.evaluation.samples import samples


@pytest.fixture
def table(tmp_path):
    paths = sorted(map(str, write_noise(tmp_path / "photos", 30, 20).iterdir()))
    kinds = ["animal/cat", "animal/dog", "food"]
    return pd.DataFrame(
        {
            "path": paths,
            "score": [(7 * n % 30) / 30 for n in range(30)],
            "category": [kinds[n % 3].split("/")[0] for n in range(30)],
        }
    ).assign(file=[f"{kinds[n % 3]}/{n}.png" for n in range(30)])


def scores(figure):
    return [[float(text.get_text()) for axis in row.axes for text in axis.texts] for row in figure.subfigs]


def test_a_row_goes_from_the_lowest_to_the_highest_at_equal_steps_of_rank(table):
    (row,) = scores(samples(table, count=4))
    ranked = sorted(table["score"])
    assert row == [round(ranked[place], 2) for place in (0, 10, 19, 29)]


def test_a_row_a_category_or_a_folder(table):
    rows = scores(samples(table, ["animal", "food", "animal/dog"], count=12))
    assert [len(row) for row in rows] == [12, 10, 10]
    assert rows[1] == [round(score, 2) for score in sorted(table.loc[table["category"] == "food", "score"])]


def test_what_cannot_be_drawn_is_said(table):
    with pytest.raises(ImageError, match="No photograph is of the category 'aminal'"):
        samples(table, ["aminal"])
    with pytest.raises(ImageError, match="1 to 12 photographs; given was 13"):
        samples(table, count=13)
