import json

from PIL import Image

QUICK = ("--weights", "random", "--steps", 4, "--pictures", 2)


def test_makes_pictures_a_page_and_a_figure(memviz, tiny, photos, tmp_path):
    photo = sorted(photos.iterdir())[0]
    done = memviz("accentuate", tiny, photo, "--up", "--out", tmp_path / "out", *QUICK)
    assert done.code == 0, done.err
    lines = [line.split() for line in done.out.splitlines() if line]
    assert lines[0][:3] == ["role", "file", "score"]
    assert [line[0] for line in lines[1:8]] == ["before", "step", "step", "opposite", "random", "random", "random"]
    assert "no proof that people would remember it" in done.out
    page = tmp_path / "out" / "index.html"
    assert done.out.splitlines()[-1] == str(page)
    text = page.read_text()
    assert "What would make it more memorable?" in text
    assert "no proof that people would remember it" in text
    assert "2 of 2" not in text
    assert "The whole change" in text
    for shot in json.loads((page.parent / "accentuation.json").read_text())["shots"]:
        assert text.count(f'href="{shot["file"]}"') == 1
        assert f"{shot['measured']['score']:.3f}" in text
    with Image.open(page.parent / "strip.png") as figure:
        assert figure.width == 2126  # 180 mm at 300 dpi
    assert (page.parent / "strip.pdf").read_bytes().startswith(b"%PDF")
    # again: what is there is shown
    again = memviz("accentuate", tiny, photo, "--up", "--out", tmp_path / "out", *QUICK)
    assert again.out == done.out
    other = memviz("accentuate", tiny, photo, "--down", "--out", tmp_path / "out", *QUICK)
    assert other.code == 1
    assert "direction 'up', not 'down'" in other.err


def test_a_unit(memviz, tiny, photos, tmp_path):
    photo = sorted(photos.iterdir())[0]
    unit = ("--unit", "alexnet.conv2:3", "--hold", "alexnet.conv1", "--parameters", "phase")
    done = memviz("accentuate", tiny, photo, "--down", *unit, "--out", tmp_path / "out", *QUICK)
    assert done.code == 0, done.err
    assert done.out.split()[2:4] == ["mean", "peak"]
    assert "What would excite alexnet.conv2:3 less?" in (tmp_path / "out" / "index.html").read_text()


def test_one_direction(memviz, tiny, photos, tmp_path):
    photo = sorted(photos.iterdir())[0]
    for given in ((), ("--up", "--down")):
        done = memviz("accentuate", tiny, photo, *given, "--out", tmp_path / "out")
        assert done.code == 2
        assert "Give --up or --down, one of them." in done.err


def test_what_cannot_be_done(memviz, tiny, photos, tmp_path):
    done = memviz("accentuate", tiny, tmp_path / "none.png", "--up", "--out", tmp_path / "out", *QUICK)
    assert (done.code, (tmp_path / "out").exists()) == (1, False)
    assert "none.png" in done.err
    photo = sorted(photos.iterdir())[0]
    done = memviz("accentuate", tiny, photo, "--up", "--strength", 3, "--out", tmp_path / "out", *QUICK)
    assert (done.code, (tmp_path / "out").exists()) == (1, False)
    assert "strength=3.0: give a distance above 0, of at most 1." in done.err
