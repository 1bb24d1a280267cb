import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from helpers import undisturbed
from matplotlib.colors import to_hex
from PIL import Image
from scipy.stats import gaussian_kde

from memviz.errors import MemvizError
from memviz.evaluation.plots import density, density_curve, learning_curves, read_log, save


@pytest.fixture
def scores():
    random = np.random.default_rng(0)
    truth = random.beta(8, 3, 500).round(3)
    return truth, 0.3 * truth + 0.5


@pytest.fixture
def logs(tmp_path):
    """Two runs as Lightning's CSVLogger writes them: rows of training and of validation, with gaps."""
    for name, values in (("a", (0.2, 0.5, 0.4)), ("b", (0.1, 0.2, 0.3))):
        lines = ["epoch,step,train_loss,val_spearman"]
        for epoch, value in enumerate(values):
            lines += [f"{epoch},{epoch * 10 + 4},0.1,", f"{epoch},{epoch * 10 + 9},,{value}"]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return {name: tmp_path / f"{name}.csv" for name in ("a", "b")}


def area(line):
    """By the middle of equal bins over the axis."""
    places, height = line.get_data()
    return (height * (places[1] - places[0])).sum()


def test_curve_as_scipys_estimate_within(scores):
    for values in scores:
        places, found = density_curve(values)
        expected = gaussian_kde(values)(places)
        inner = places < 0.85  # beyond, what scipy spreads over the end is reflected
        np.testing.assert_allclose(found[inner], expected[inner], atol=0.01 * expected.max())


def test_curve_is_reflected_at_the_ends():
    values = np.random.default_rng(0).uniform(0, 1, 400)
    places, found = density_curve(values)
    kernel = gaussian_kde(values)
    expected = kernel(places) + kernel(-places) + kernel(2 - places)
    np.testing.assert_allclose(found, expected, atol=0.01 * expected.max())


@pytest.mark.parametrize("values", [[0.5], [0.75] * 9, [0, 1], [0.0025, 0.003]])
def test_area_is_one_whatever_the_scores(values):
    places, found = density_curve(values)
    assert found.sum() * (places[1] - places[0]) == pytest.approx(1)
    assert np.isfinite(found).all()


def test_truth_is_blue_and_predictions_are_orange_with_area_one(scores):
    (axes,) = density(*scores, title="MemNet").axes
    truth, prediction = axes.lines
    assert [to_hex(line.get_color()) for line in axes.lines] == ["#1f77b4", "#ff7f0e"]
    assert [text.get_text() for text in axes.get_legend().texts] == ["Ground truth", "Predictions"]
    assert [area(line) for line in axes.lines] == pytest.approx([1, 1])
    assert prediction.get_ydata().max() > 3 * truth.get_ydata().max()  # drawn to the mean
    assert axes.get_xlim() == (0, 1)


def test_a_linear_output_may_leave_the_scores_range(scores):
    (axes,) = density(scores[0], [-0.2, 0.5, 1.5]).axes
    assert axes.get_xlim() == (-0.2, 1.5)
    assert [area(line) for line in axes.lines] == pytest.approx([1, 1])


@pytest.mark.parametrize("prediction", [[], [0.5, np.nan]])
def test_what_has_no_density_is_refused(prediction):
    with pytest.raises(MemvizError, match="Predictions: "):
        density([0.5], prediction)


def test_log_skips_the_rows_of_training(logs):
    assert read_log(logs["a"]).to_numpy().tolist() == [[9, 0.2], [19, 0.5], [29, 0.4]]


def test_learning_curves_mark_the_best(logs):
    figure = learning_curves(logs, title="MemNet")
    line, best = figure.axes[0].lines[:2]
    np.testing.assert_array_equal(line.get_xydata(), read_log(logs["a"]))
    np.testing.assert_array_equal(best.get_xydata(), [[19, 0.5]])
    assert legend(figure) == ["a", "b"]


def legend(figure):
    (only,) = figure.legends
    return [text.get_text() for text in only.texts]


@pytest.mark.parametrize("count", [1, 2, 10, 30])
def test_a_legend_covers_no_curve(logs, count):
    figure = learning_curves({f"η = {number}": logs["b"] for number in range(count)})
    figure.draw_without_rendering()
    (box,) = (only.get_window_extent() for only in figure.legends)
    (axes,) = figure.axes
    assert not box.overlaps(axes.get_tightbbox())
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert axes.get_window_extent().height > 0.5 * 60 / 25.4 * figure.dpi


def test_of_many_runs_the_best_is_named(logs):
    runs = {str(number): logs["b"] for number in range(30)} | {"η = 1": logs["a"]}
    figure = learning_curves(runs)
    assert legend(figure) == ["Best: η = 1"]
    lines = figure.axes[0].lines
    assert len({to_hex(line.get_color()) for line in lines}) == 31
    assert to_hex(lines[-1].get_color()) == "#000000"


def test_shades_follow_the_learning_rate(logs):
    rates = {str(number): 10.0 ** -(number % 5) for number in range(12)}
    figure = learning_curves(dict.fromkeys(rates, logs["a"]), shades=("Learning rate η", rates))
    axes, bar = figure.axes
    assert bar.get_ylabel() == "Learning rate η"
    assert bar.get_ylim() == pytest.approx((1e-4, 1))
    # And two beyond the ends, which are not drawn.
    assert [tick.get_text() for tick in bar.get_yticklabels()][1:-1] == ["0.0001", "0.001", "0.01", "0.1", "1"]
    assert {tick.get_text() for tick in bar.get_yticklabels(minor=True)} <= {""}
    colours = [to_hex(line.get_color()) for line in axes.lines[::2]]
    assert colours[1:5] == colours[6:10]  # the first is the best, and black
    assert len(set(colours[1:6])) == 5


def test_what_is_no_log_is_named(logs, tmp_path):
    with pytest.raises(MemvizError, match=r"a\.csv has no column 'mse'; it has epoch, step, train_loss, val_spearman"):
        learning_curves(logs, metric="mse")
    with pytest.raises(MemvizError, match=r"none\.csv is not a log"):
        learning_curves({"x": tmp_path / "none.csv"})
    (tmp_path / "new.csv").write_text("step,val_spearman\n")
    with pytest.raises(MemvizError, match="None of the 1 logs"):
        learning_curves({"x": tmp_path / "new.csv"})


@pytest.mark.parametrize("draw", [lambda scores, logs: density(*scores), lambda scores, logs: learning_curves(logs)])
def test_files_fit_a_journal(scores, logs, tmp_path, draw):
    before = dict(matplotlib.rcParams)
    with undisturbed():
        save(draw(scores, logs), tmp_path / "a.b")
    assert dict(matplotlib.rcParams) == before
    with Image.open(tmp_path / "a.b.png") as image:
        assert image.width == pytest.approx(85 / 25.4 * 300, abs=1)
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    content = (tmp_path / "a.b.pdf").read_bytes()
    assert b"/FontFile2" in content
    assert b"/Type3" not in content
    save(draw(scores, logs), tmp_path / "again")
    for suffix in ("png", "pdf"):
        assert Path(tmp_path / f"again.{suffix}").read_bytes() == Path(tmp_path / f"a.b.{suffix}").read_bytes()


def test_pyplot_is_not_touched():
    code = "import sys, memviz.evaluation.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
