import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from memviz.errors import MemvizError

ROOT = Path(__file__).parents[2]
LAMEM = ROOT.parent / "shared/memorability/lamem_scores_unnamed.txt"
draw = runpy.run_path(str(ROOT / "experiments/figures/draw.py"))["main"]


@pytest.fixture
def predictions(tmp_path):
    truth = np.linspace(0.3, 0.9, 50)
    path = tmp_path / "predictions.csv"
    pd.DataFrame({"truth": truth, "prediction": 0.4 + truth / 2}).to_csv(path, index=False)
    return path


def test_density_in_one_command(predictions, tmp_path, capsys):
    draw(["density", str(predictions), "--title", "MemNet", "--out", str(tmp_path / "new/figure08")])
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["figure08.pdf", "figure08.png"]
    assert capsys.readouterr().err == ""


def test_true_scores_of_other_images(predictions, tmp_path, capsys):
    scores = tmp_path / "scores.csv"
    pd.read_csv(predictions)[["prediction"]].rename(columns={"prediction": "memorability"}).to_csv(scores, index=False)
    (tmp_path / "truth.txt").write_text("0\n0.7\n0.8\n0\n0.9\n")
    draw(["density", str(scores), "--truth", str(tmp_path / "truth.txt"), "--out", str(tmp_path / "figure")])
    assert (tmp_path / "figure.pdf").exists()
    assert "2 of 5 true scores are exactly 0" in capsys.readouterr().err
    with pytest.raises(MemvizError, match="none of the columns truth, score"):
        draw(["density", str(scores), "--out", str(tmp_path / "figure")])


def test_curves_in_one_command(tmp_path):
    log = tmp_path / "metrics.csv"
    log.write_text("step,val_spearman\n1,0.2\n2,0.3\n")
    draw(["curves", f"η = 0.001={log}", f"η = 0.01={log}", "--out", str(tmp_path / "figure07")])
    assert (tmp_path / "figure07.png").exists()


@pytest.mark.shared
@pytest.mark.skipif(not LAMEM.exists(), reason=f"{LAMEM} is not here")
def test_real_lamem_scores(predictions, tmp_path, capsys):
    draw(["density", str(predictions), "--truth", str(LAMEM), "--out", str(tmp_path / "figure")])
    assert "236 of 58741" in capsys.readouterr().err


def test_samples_of_a_data_set_in_one_command(tmp_path):
    from experiments.fake_data.make import make_memcat

    place = make_memcat(tmp_path / "memcat", 40)
    draw(
        [
            "samples",
            f"memcat={place}",
            "--categories",
            "animal",
            "animal/bear",
            "--title",
            "Synthetic",
            "--out",
            str(tmp_path / "f"),
        ]
    )
    assert (tmp_path / "f.pdf").exists()
    with pytest.raises(MemvizError, match=r"No photograph is of the category 'anmal'\. .*animal"):
        draw(["samples", f"memcat={place}", "--categories", "anmal", "--out", str(tmp_path / "g")])
