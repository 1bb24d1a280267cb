"""Whatever path a command is given, it ends with a sentence, and not with a traceback."""

import pytest

RANDOM = ("--weights", "random")
RECIPE = """title = "T"
model = "tiny"
layout = "grid"
[render]
size = 32
steps = 1
[[panels]]
layer = "alexnet.conv1"
units = [0]
"""


def below_a_file(path):
    path.touch()
    return path / "below"


def loop(path):
    path.symlink_to(path)
    return path


def long_name(path):
    return path.with_name("x" * 300)


def folder(path):
    path.mkdir()
    return path


TRAIN = ("train", "tiny", "--data", "csv={photos}/scores.csv", "--backbone", "random", "--set", "epochs=1")
EVALUATE = ("evaluate", "tiny", *RANDOM, "--resamples", 2)
GALLERY = ("gallery", "{work}/r.toml", *RANDOM)
TOP = ("top", "{index}", "alexnet.conv1:0")
RENDER = ("render", "tiny", "alexnet.conv1:0", "--steps", 1, "--size", 16, *RANDOM)
# Where a file is meant, a folder is wrong too; a path to write to that is a loop is replaced, as any link is.
READ, READ_FOLDER = (below_a_file, loop, long_name, folder), (below_a_file, loop, long_name)
WRITE, WRITE_FOLDER = (below_a_file, long_name, folder), (below_a_file, loop, long_name)
CASES = {
    "layers MODEL": (READ, "layers", "{odd}"),
    "layers --weights": (READ, "layers", "tiny", "--weights", "{odd}"),
    "score PHOTOGRAPHS": (READ, "score", "{odd}", "--model", "tiny", *RANDOM),
    "score --csv": (WRITE, "score", "{photos}", "--model", "tiny", *RANDOM, "--csv", "{odd}"),
    "score --model": (READ, "score", "{photos}", "--model", "{odd}"),
    "score --mean": (READ, "score", "{photos}", "--model", "memnet-caffe", *RANDOM, "--mean", "{odd}"),
    "evaluate csv": (READ, *EVALUATE, "--data", "csv={odd}"),
    "evaluate lamem": (READ, *EVALUATE, "--data", "lamem={odd}"),
    "evaluate memcat": (READ, *EVALUATE, "--data", "memcat={odd}"),
    "evaluate --split": (READ, *EVALUATE, "--data", "csv={photos}/scores.csv", "--split", "{odd}"),
    "evaluate --out": (WRITE_FOLDER, *EVALUATE, "--data", "csv={photos}/scores.csv", "--out", "{odd}"),
    "train --out": (WRITE_FOLDER, *TRAIN, "--out", "{odd}"),
    "train --config": (READ, *TRAIN, "--out", "{work}/t", "--config", "{odd}"),
    "train --split": (READ, *TRAIN, "--out", "{work}/t", "--split", "{odd}"),
    "train --cache": (WRITE_FOLDER, *TRAIN, "--out", "{work}/t", "--cache", "{odd}"),
    "train --teacher": (READ, "train", "tiny", "--teacher", "{odd}", "--images", "{photos}", "--out", "{work}/t"),
    "train --backbone": (READ, "train", "resmem", *TRAIN[2:4], "--backbone", "resnet={odd}.pth", "--out", "{work}/t"),
    "search --out": (WRITE_FOLDER, "search", *TRAIN[1:], "--trials", 1, "--out", "{odd}"),
    "cache": (READ_FOLDER, "cache", "{odd}", "--prune"),
    "gallery RECIPE": (READ, "gallery", "{odd}", "--out", "{work}/g", "--index", "{index}", *RANDOM),
    "gallery --out": (WRITE_FOLDER, *GALLERY, "--index", "{index}", "--out", "{odd}"),
    "gallery --index": (READ, *GALLERY, "--index", "{odd}", "--out", "{work}/g"),
    "gallery --renders": (WRITE_FOLDER, *GALLERY, "--index", "{index}", "--out", "{work}/g", "--renders", "{odd}"),
    "index PHOTOGRAPHS": (READ, "index", "tiny", "{odd}", *RANDOM, "--out", "{work}/i"),
    "index --out": (WRITE_FOLDER, "index", "tiny", "{photos}", *RANDOM, "--out", "{odd}"),
    "top INDEX": (READ, "top", "{odd}", "alexnet.conv1:0"),
    "top --csv": (WRITE, *TOP, "--csv", "{odd}"),
    "top --crops": (WRITE_FOLDER, *TOP, "--crops", "{odd}"),
    "top --photos": (READ, *TOP, "--crops", "{work}/c", "--photos", "{odd}"),
    "render --out": (WRITE_FOLDER, *RENDER, "--out", "{odd}"),
}


@pytest.mark.filterwarnings("default::UserWarning")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_paths_that_cannot_be_are_a_sentence(memviz, tiny, photos, request, tmp_path, case):
    kinds, *command = case
    known = {"photos": photos, "work": tmp_path}
    if "{index}" in command:
        known["index"] = request.getfixturevalue("index")
    rows = [f"{path.name},0.{number + 11}" for number, path in enumerate(sorted(photos.iterdir()))]
    (photos / "scores.csv").write_text("\n".join(["path,score", *rows]))
    (tmp_path / "r.toml").write_text(RECIPE)
    for kind in kinds:
        odd = kind(tmp_path / kind.__name__)
        done = memviz(*(str(word).format(**known, odd=odd) for word in command))
        assert done.code == 1, f"{kind.__name__}: {done.err}"
        assert "Error: " in done.err
        assert "Traceback" not in done.err
    assert not list(tmp_path.rglob(".writing-*"))
