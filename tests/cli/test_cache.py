import os

import numpy as np
import pandas as pd


def test_what_is_kept_and_what_pruning_frees(memviz, tiny, photos, tmp_path):
    files = sorted(path.name for path in photos.iterdir())
    pd.DataFrame({"path": files, "score": np.linspace(0.4, 0.9, 12)}).to_csv(photos / "scores.csv", index=False)
    settings = ("--set", "epochs=1", "--set", "batch_size=4", "--set", "fractions=[0.5, 0.25, 0.25]")
    given = ("--data", f"csv={photos / 'scores.csv'}", "--out", tmp_path / "run", "--cache", tmp_path / "kept")
    done = memviz("train", tiny, *given, *settings, "--accelerator", "cpu")
    assert done.code == 0, done.err
    listed = memviz("cache", tmp_path / "kept")
    assert listed.out.splitlines()[1].split()[1:] == ["12", f"{12 * 3 * 32 * 32 / 1e6:.1f}"]
    assert memviz("cache", tmp_path / "kept", "--prune").out.startswith("0.0 MB freed")
    for name in files:
        os.unlink(photos / name)
    pruned = memviz("cache", tmp_path / "kept", "--prune").out.splitlines()
    assert pruned == ["0.0 MB freed", f"{tmp_path / 'kept'} holds no records."]


def test_no_cache(memviz, tmp_path):
    done = memviz("cache", tmp_path / "none")
    assert (done.code, "is no folder" in done.err) == (1, True)
    assert "holds no records" in memviz("cache", tmp_path).out
