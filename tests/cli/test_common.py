import dataclasses

import pytest

from memviz.models.registry import ARCHITECTURES


@pytest.fixture
def chosen(tiny, monkeypatch):
    """The options that "tiny", which has some now, was built with."""
    entry, options = ARCHITECTURES[tiny], []

    def build(**given):
        options.append(given)
        return entry.build()

    valid = {"head": ("paper", "small"), "colour": ("red",)}
    monkeypatch.setitem(ARCHITECTURES, tiny, dataclasses.replace(entry, build=build, options=valid))
    return options


@pytest.mark.parametrize(
    "arguments",
    [
        ("layers", "tiny"),
        ("score", "{photos}", "--model", "tiny"),
        ("evaluate", "tiny", "--data", "csv={photos}/scores.csv", "--resamples", 2),
        ("render", "tiny", "alexnet.conv1", "--units", 0, "--steps", 1, "--out", "{out}"),
        ("index", "tiny", "{photos}", "--out", "{out}"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_options_of_the_architecture(memviz, chosen, photos, tmp_path, arguments):
    files = [path.name for path in sorted(photos.iterdir())]
    (photos / "scores.csv").write_text("path,score\n" + "".join(f"{file},0.5\n" for file in files))
    filled = [str(argument).format(photos=photos, out=tmp_path / "out") for argument in arguments]
    done = memviz(*filled, "--weights", "random", "--option", "head=small", "--option", "colour=red")
    assert done.code == 0, done.err
    assert chosen == [{"head": "small", "colour": "red"}]


def test_options_for_a_gallery(memviz, index, chosen, tmp_path):
    (tmp_path / "r.toml").write_text(
        'title = "T"\nmodel = "tiny"\nlayout = "grid"\n[render]\nsize = 32\nsteps = 1\n'
        '[[panels]]\nlayer = "alexnet.conv1"\nunits = [0]\n'
    )
    arguments = ("--index", index, "--out", tmp_path / "g", "--weights", "random", "--option", "head=small")
    done = memviz("gallery", tmp_path / "r.toml", *arguments)
    assert done.code == 0, done.err
    assert chosen == [{"head": "small"}]
