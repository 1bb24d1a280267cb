import json

import pytest
from PIL import Image

QUICK = ("--weights", "random", "--references", 3, "--steps", 2, "--max-steps", 4)


def test_makes_a_page_for_each_and_one_for_all(memviz, tiny, photos, index, tmp_path):
    done = memviz("render", tiny, "alexnet.conv5", "--out", tmp_path / "renders", "--weights", "random", "--steps", 2)
    assert done.code == 0, done.err
    labels = tmp_path / "labels.csv"
    labels.write_text("unit,label,by,note\n" + "".join(f"resnet.layer1:{unit},wavy,AN,\n" for unit in range(4)))
    done = memviz("label", tiny, "--weights", "random", "--index", index, "--read", labels)
    assert done.code == 0, done.err
    given, out = sorted(photos.iterdir())[:2], tmp_path / "out"
    arguments = ("explain", tiny, *given, "--index", index, "--renders", tmp_path / "renders", "--out", out, *QUICK)
    done = memviz(*arguments)
    assert done.code == 0, done.err
    assert done.out.split()[:4] == ["unit", "contribution", "value", "reference"]
    assert done.out.splitlines()[-1] == str(out / "index.html")
    places = sorted(path for path in out.iterdir() if path.is_dir())
    assert [place.name[:3] for place in places] == ["00-", "01-"]
    for place in places:
        text = (place / "index.html").read_text()
        data = json.loads((place / "explanation.json").read_text())
        assert f"Why a memorability of {data['score']:.3f}?" in text
        assert str(place / "index.html") in done.out
        layers = {layer["address"]: layer["raising"] + layer["lowering"] for layer in data["layers"]}
        assert text.count('<span class="verdict">wavy</span>') == len(layers["resnet.layer1"]) > 0
        assert f'href="{place.name}/index.html"' in (out / "index.html").read_text()
        assert [layer["address"] for layer in data["layers"]][-1] == "resnet.layer3.20"
        assert (place / "images" / "alexnet.conv5-0000.png").is_file() == any(
            unit["unit"] == "alexnet.conv5:0"
            for layer in data["layers"]
            for unit in layer["raising"] + layer["lowering"]
        )
    # again: what is there is shown
    assert memviz(*arguments).out == done.out
    other = memviz(*arguments[:-2], "--max-steps", 8)
    assert other.code == 1
    assert "config.max_steps 4, not 8" in other.err


@pytest.mark.filterwarnings("default::UserWarning")
def test_without_an_index_and_with_a_file_that_is_no_photograph(memviz, tiny, photos, tmp_path):
    (photos / "x.png").write_bytes(b"no picture")
    given = [sorted(photos.iterdir())[0], photos / "x.png"]
    done = memviz("explain", tiny, *given, "--out", tmp_path / "out", "--against", "blurred", *QUICK)
    assert done.code == 0, done.err
    assert "Warning: 1 unreadable files were skipped" in done.err
    assert "x.png: not a picture" in done.err
    assert "blurred until its details are gone" in done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("x.png",), "None of the 1 photographs can be read"),
        (("none.png",), "none.png does not exist"),
        (("00.png", "--layers", "alexnet.conv9"), "There is no layer 'alexnet.conv9'. Close names: alexnet.conv"),
        (("00.png", "--index", "nowhere"), "There is no index in nowhere."),
        (("00.png", "--share", 2), "share=2.0: give a share"),
        (("00.png", "--method", "magic"), "There is no method 'magic' for maps."),
        (("00.png", "--index", "index", "--layers", "head"), "does not watch 'head'"),
    ],
)
def test_what_cannot_be_done_leaves_nothing(memviz, tiny, photos, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(photos)
    (photos / "x.png").write_bytes(b"no picture")
    if "index" in arguments:
        Image.new("RGB", (9, 9)).save(photos / "x.png")
        assert memviz("index", tiny, photos, "--out", "index", "-k", 3, "--weights", "random").code == 0
    done = memviz("explain", tiny, *arguments, "--out", tmp_path / "out", *QUICK)
    assert (done.code, (tmp_path / "out").exists()) == (1, False)
    assert message in done.err
    assert "Traceback" not in done.err
