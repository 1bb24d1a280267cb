import json
from pathlib import Path
from types import SimpleNamespace

import memviz as library


def test_the_main_job(memviz, world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = memviz("demo", "--device", "cpu")
    assert done.code == 0, done.err
    page = tmp_path / "memviz-demo/gallery/index.html"
    home = tmp_path / "memviz-demo/site/index.html"
    assert {str(page), str(home)} <= set(done.out.splitlines())
    assert "drive the score most" in home.read_text()
    assert (home.parent / "alexnet/conv1/0/index.html").is_file()
    assert "AlexNet against ResNet" in page.read_text()
    assert world == [("resmem", "published", "cpu")]
    assert "12 sample photographs" in done.err
    assert "Rendering alexnet.conv1:" in done.err
    shown = json.loads((page.parent / "gallery.json").read_text())
    assert len(shown["sections"]) >= 1
    assert library.load_index(tmp_path / "memviz-demo/index").result.photographs == 12


def test_running_again_is_quick(memviz, world, tmp_path, monkeypatch):
    first = memviz("demo", "--out", tmp_path / "demo")
    monkeypatch.setattr("memviz.index.build.work", None)
    monkeypatch.setattr("memviz.workflow.render_job", None)
    again = memviz("demo", "--out", tmp_path / "demo")
    assert again.code == 0, again.err
    assert again.out == first.out


def test_labels_are_of_units_that_the_network_has_and_do_not_replace_a_persons(resmem, tmp_path):
    from memviz.cli import demo
    from memviz.explanation.handwritten import read_entries
    from memviz.explanation.labels import labels_folder

    file = Path(demo.__file__).with_name("demo_labels.toml")
    entries = read_entries(file, resmem.layers)
    assert len(entries) > 5
    assert all("700 photographs" in entry.note for entry in entries.values())
    assert all("700 photographs of ImageNet" in entry.by for entry in entries.values())  # which pages show
    weights = SimpleNamespace(weights=resmem.fingerprint())
    index = SimpleNamespace(path=tmp_path / "index", manifest=weights)
    demo._give_labels(index)
    mine = labels_folder(index) / "labels.toml"
    assert mine.read_bytes() == file.read_bytes()
    mine.write_text("# mine")
    demo._give_labels(index)
    assert mine.read_text() == "# mine"
    weights.weights = "other" * 8
    demo._give_labels(index)
    assert not labels_folder(index).exists()
