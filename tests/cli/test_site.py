import json

from helpers import write_noise


def test_a_site_of_rendered_layers(memviz, tiny, tmp_path):
    write_noise(tmp_path / "photos", 12, 20)
    assert memviz("index", "tiny", tmp_path / "photos", "--weights", "random", "--out", tmp_path / "index").code == 0
    rendered = memviz(
        "render",
        "tiny",
        "alexnet.conv2",
        "--weights",
        "random",
        "--steps",
        "2",
        "--size",
        "16",
        "--out",
        tmp_path / "r",
    )
    assert rendered.code == 0
    built = memviz("site", "--index", tmp_path / "index", "--renders", tmp_path / "r", "--out", tmp_path / "site")
    assert built.code == 0
    assert built.out.strip() == str(tmp_path / "site" / "index.html")
    unit = json.loads((tmp_path / "site" / "alexnet" / "conv2" / "1" / "unit.json").read_text())
    assert (unit["unit"], len(unit["pictures"])) == ("alexnet.conv2:1", 1)
    assert not (tmp_path / "site" / "alexnet" / "conv1").exists()
    again = memviz("site", "--index", tmp_path / "index", "--layers", "alexnet.conv1", "--out", tmp_path / "site")
    assert again.code == 0
    assert (tmp_path / "site" / "alexnet" / "conv1" / "0" / "index.html").is_file()


def test_photographs_that_were_moved_are_found_and_others_named(memviz, tiny, tmp_path):
    write_noise(tmp_path / "photos", 12, 20)
    memviz("index", "tiny", tmp_path / "photos", "--weights", "random", "--out", tmp_path / "index")
    (tmp_path / "photos").rename(tmp_path / "moved")
    command = ("site", "--index", tmp_path / "index", "--layers", "alexnet.conv1", "--out", tmp_path / "site")
    failed = memviz(*command)
    assert failed.code == 1
    assert "or say where the photographs lie now" in failed.err
    assert memviz(*command, "--photos", tmp_path / "moved").code == 0


def test_wrong_usage(memviz, tmp_path):
    done = memviz("site", "--index", tmp_path / "nowhere", "--out", tmp_path / "site")
    assert (done.code, "There is no index in" in done.err) == (1, True)
    assert not (tmp_path / "site").exists()


def test_a_map_of_a_model(memviz, tmp_path):
    done = memviz("map", "memnet", "--out", tmp_path / "map.svg")
    assert (done.code, done.out.strip()) == (0, str(tmp_path / "map.svg"))
    assert "conv5" in (tmp_path / "map.svg").read_text()
    done = memviz("map", "memnet", "--out", tmp_path / "map.txt")
    assert (done.code, "give one that ends with svg, pdf, png" in done.err) == (1, True)
