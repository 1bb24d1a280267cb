"""The whole of Table 1, on synthetic pictures: all four models are really trained, if only for a step or two."""

import json
import os
import re
import signal
import sys

import pandas as pd
import pytest
from helpers import undisturbed

import memviz
from experiments.fake_data.make import make_lamem, make_memcat
from experiments.table1.run import COLUMNS, main
from memviz.training import Start, TrainingJob


@pytest.mark.slow
def test_every_model_is_trained_and_evaluated_on_one_split(tmp_path, monkeypatch, capsys):
    make_lamem(tmp_path / "lamem", 12, seed=0)
    make_memcat(tmp_path / "memcat", 12, seed=0)
    out = tmp_path / "table1"
    data = [f"--data={name}={tmp_path / name}" for name in ("lamem", "memcat")]
    settings = ["epochs=1", "batch_size=8", "fractions=[0.7, 0.15, 0.15]"]
    changes = [part for setting in settings for part in ("--set", setting)]
    command = ["run.py", *data, f"--out={out}", "--random-backbones", "--small", "--accelerator=cpu", *changes]
    monkeypatch.setattr(sys, "argv", command)
    main()
    printed = capsys.readouterr().out
    assert printed.startswith("SYNTHETIC DATA")

    table = pd.read_csv(out / "table1.csv")
    assert list(table) == COLUMNS
    assert table["model"].tolist() == ["memnet", "resmem", "resmem-retrain", "m3m"]
    assert table["paper's Spearman"].tolist() == [0.55, 0.66, 0.67, 0.68]
    assert json.loads((out / "table1.json").read_text())["synthetic"]

    splits = {name: json.loads((out / name / "split.json").read_text())["test"] for name in table["model"]}
    assert all(test == splits["memnet"] for test in splits.values())
    for name, mse in zip(table["model"], table["MSE"], strict=True):
        predictions = pd.read_csv(out / name / "test/predictions.csv")
        assert mse == pytest.approx(((predictions["prediction"] - predictions["truth"]) ** 2).mean())
        assert f"{mse:.4g}" in printed
    told = table.set_index("model")["special"].fillna("")
    assert told["memnet"] == ""
    assert told["m3m"] == "head=small; random instead of pretrained: resnet, segmentation.fcn"
    assert set(table["device"].str[:5]) == {"CPU ("}
    for name in table["model"]:
        assert memviz.load_model(out / name).card.training["fractions"] == [0.7, 0.15, 0.15]
    monkeypatch.setattr(sys, "argv", [*command, "--models", "memnet"])
    main()
    pd.testing.assert_frame_equal(pd.read_csv(out / "table1.csv"), table)  # the others' rows stay
    # The ResNet of resmem has stayed as it was, batch norms included; that of resmem-retrain has not.
    before = TrainingJob("resmem", pd.DataFrame(), start=Start(backbones={})).untrained().module.state_dict()
    for name, same in (("resmem", True), ("resmem-retrain", False)):
        trained = memviz.load_model(out / name).module.state_dict()
        for end in ("weight", "running_mean"):
            resnet = [key for key in before if key.startswith("resnet.") and key.endswith(end)]
            assert all(trained[key].equal(before[key]) for key in resnet) == same, (name, end)


@pytest.mark.parametrize(
    ("data", "out", "reason"),
    [
        ("lamem=nowhere", "out", "Error: nowhere"),
        ("lamem", "out", "Error: Invalid value for --data: 'lamem': write"),
        ("lamem=nowhere", "file/out", "file is a file"),
    ],
)
def test_what_is_wrong_is_a_sentence(tmp_path, monkeypatch, data, out, reason):
    (tmp_path / "file").touch()
    monkeypatch.setattr(sys, "argv", ["run.py", f"--data={data}", f"--out={tmp_path / out}"])
    with pytest.raises(SystemExit, match=re.escape(reason)):
        main()


def test_sigterm_is_a_sentence(tmp_path, monkeypatch, capsys):
    make_lamem(tmp_path / "lamem", 12, seed=0)
    monkeypatch.setattr("experiments.table1.run.train", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
    monkeypatch.setattr(sys, "argv", ["run.py", f"--data=lamem={tmp_path / 'lamem'}", f"--out={tmp_path / 'out'}"])
    with undisturbed(), pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 143
    assert "the same command continues" in capsys.readouterr().err
