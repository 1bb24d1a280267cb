import pandas as pd
import pytest
import torch
from helpers import freed_at_once, unchanged, undisturbed
from PIL import Image
from tiny import Toy, Viewed, pictures
from torch import nn
from torchvision.models import alexnet, resnet18

import memviz
from memviz.errors import ImageError, LayerError, ModelError
from memviz.images import open_image
from memviz.models import InputSpec, Model, ScoreSpec, wrap
from memviz.models import model as model_file
from memviz.models.inputs import IMAGENET

SPEC = InputSpec(size=(16, 16), resize=18)


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return wrap(Toy(), SPEC, target="memorability", branches=Toy.branches)


@pytest.fixture
def folder(tmp_path):
    """Seven photographs of different sizes in two folders, a file that is none, one truncated."""
    (tmp_path / "deep").mkdir()
    for number in range(7):
        generator = torch.Generator().manual_seed(number)
        pixels = torch.randint(256, (20 + number, 30 - number, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(tmp_path / ("deep" if number % 2 else "") / f"{number}.png")
    (tmp_path / "5.jpg").write_bytes(b"no picture")
    (tmp_path / "6.jpg").write_bytes((tmp_path / "6.png").read_bytes()[:200])
    (tmp_path / "notes.txt").write_text("not looked at")
    return tmp_path


@pytest.fixture
def photos(folder):
    return sorted(folder.rglob("*.png"))


def test_score_is_the_networks_output_for_each_file(model, photos):
    table = model.score(photos)
    assert table["path"].tolist() == [str(path) for path in photos]
    assert table["memorability"].dtype == "float32"
    batch = torch.stack([SPEC.from_pil(open_image(path)) for path in photos])
    with torch.no_grad():
        expected = model.module.eval()(batch).flatten().tolist()
    assert table["memorability"].tolist() == pytest.approx(expected, abs=1e-6)
    assert table["memorability"].std() > 1e-4
    assert table.attrs["unreadable"] == {}


def test_a_network_that_flattens_by_view_is_scored(photos):
    model = wrap(Viewed(16).eval(), SPEC)
    with unchanged(model.module):
        table = model.score(photos)
    batch = torch.stack([SPEC.from_pil(open_image(path)) for path in photos])
    with torch.no_grad():
        expected = model.module(batch).flatten().tolist()
    assert table["score"].tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("traced", [False, True])
def test_no_network_of_a_call_stays_in_memory(model, photos, traced):
    if traced:
        model.module = torch.fx.symbolic_trace(model.module)
    with freed_at_once(model_file, "private_copy"):
        model.score(photos)


def test_score_of_ten_crops_is_made_of_their_average(model, photos):
    model.inputs = InputSpec(size=(16, 16), resize=18, crops="ten")
    model.score_spec = ScoreSpec(mean=0.4, scale=3.0, shift=0.2, clip=(0.0, 0.6))
    with torch.no_grad():
        averages = [model.module.eval()(model.inputs.crops_from_pil(open_image(path))).mean().item() for path in photos]
    expected = [min(max((average - 0.4) * 3 + 0.2, 0), 0.6) for average in averages]
    assert model.score(photos, batch_size=3)["memorability"].tolist() == pytest.approx(expected, abs=1e-5)
    assert len(set(expected)) > 1


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
@pytest.mark.parametrize("workers", [1, 4])
def test_score_does_not_depend_on_batch_size_workers_or_order(batch_size, workers, model, photos):
    expected = model.score(photos).set_index("path")["memorability"]
    shuffled = photos[::2] + photos[1::2][::-1]
    given = model.score(shuffled, batch_size=batch_size, workers=workers)
    assert given["path"].tolist() == [str(path) for path in shuffled]
    for path, score in zip(given["path"], given["memorability"], strict=True):
        assert score == pytest.approx(expected[path], abs=1e-6)


def test_score_searches_folders_and_names_unreadable_files(model, folder, photos):
    with pytest.warns(UserWarning, match=r"2 unreadable files were skipped:\n(.*\n)?.*5\.jpg: .+") as warned:
        table = model.score(folder, batch_size=2)
    assert sorted(table["path"]) == sorted(map(str, photos))
    assert set(table.attrs["unreadable"]) == {str(folder / "5.jpg"), str(folder / "6.jpg")}
    assert all(table.attrs["unreadable"].values())
    assert warned[0].filename == __file__, "the warning points at the caller"


def test_score_of_unreadable_files_alone_is_an_empty_table(model, folder):
    with pytest.warns(UserWarning, match="1 unreadable"):
        table = model.score(folder / "5.jpg")
    assert table.columns.tolist() == ["path", "memorability"]
    assert len(table) == 0


def test_many_unreadable_files_are_counted(model, tmp_path):
    for number in range(13):
        (tmp_path / f"{number:02d}.png").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"13 unreadable(.*\n)+.*09\.png.*\n  and 3 more"):
        model.score(tmp_path)


@pytest.mark.parametrize("given", [[], "nowhere", "nowhere.jpg"])
def test_score_of_nothing(given, model, tmp_path):
    with pytest.raises(ImageError):
        model.score(tmp_path / given if given else given)


def test_score_shows_progress_when_asked(model, photos, capsys):
    model.score(photos, progress=False)
    assert capsys.readouterr().err == ""
    model.score(photos, progress=True)
    assert f"Scoring: {len(photos)}/{len(photos)} images" in capsys.readouterr().err


def test_score_leaves_everything_as_it_was(model, photos):
    model.module.train()
    model.module.head.register_forward_hook(lambda *_: None)
    with unchanged(model.module), undisturbed():
        model.score(photos)


@pytest.mark.parametrize("failing", ["network", "not a score", "progress"])
def test_score_that_fails_leaves_everything_as_it_was(failing, photos, monkeypatch):
    module = {"network": nn.Conv2d(5, 1, 3), "not a score": nn.Conv2d(3, 8, 3), "progress": Toy()}[failing].train()
    monkeypatch.setattr(Image.Image, "getexif", stop) if failing == "progress" else None
    error = {"network": RuntimeError, "not a score": ModelError, "progress": KeyboardInterrupt}[failing]
    with unchanged(module), undisturbed(), pytest.raises(error):
        wrap(module, SPEC).score(photos)


def stop(self):
    raise KeyboardInterrupt


def test_what_gives_many_numbers_is_no_score(photos):
    with pytest.raises(ModelError, match="Conv2d does not give one number a picture"):
        wrap(nn.Conv2d(3, 1, 3), SPEC).score(photos)


def test_score_without_a_meaning_is_called_score(photos):
    assert wrap(Toy(), SPEC).score(photos).columns.tolist() == ["path", "score"]


def test_score_with_double_precision_weights(model, photos):
    expected = model.score(photos)["memorability"].tolist()
    model.module.double()
    assert model.score(photos)["memorability"].tolist() == pytest.approx(expected, abs=1e-5)


def test_call_is_in_evaluation_mode_with_gradients(model):
    model.module.train()
    batch = pictures(2, 16).requires_grad_()
    with unchanged(model.module), undisturbed():
        alone = [model(batch[:1]), model(batch[1:])]
        together = model(batch)
    torch.testing.assert_close(torch.cat(alone), together)
    (gradient,) = torch.autograd.grad(together.sum(), batch)
    assert gradient.abs().sum() > 0


def test_layers_are_found_without_changing_anything(model):
    model.module.train()
    with unchanged(model.module), undisturbed():
        table = model.layers
    assert table["resnet@1"].address == "resnet.0"
    assert model.layers is table


def test_fingerprint_follows_the_weights(model):
    with unchanged(model.module), undisturbed():
        before = model.fingerprint()
    model.module.head.bias.data += 1
    assert model.fingerprint() != before


def test_device_and_dtype_are_the_weights(model):
    assert (model.device, model.dtype) == (torch.device("cpu"), torch.float32)
    model.module.double()
    assert model.dtype == torch.float64
    assert model.to("meta") is model
    assert model.device == torch.device("meta")


def test_a_network_without_weights():
    model = wrap(nn.AdaptiveAvgPool2d(1), SPEC)
    assert (model.device, model.dtype) == (torch.device("cpu"), torch.float32)
    assert len(model.fingerprint()) == 64
    assert len(model.layers) == 0


@pytest.mark.parametrize(
    ("build", "address", "field"),
    [
        (alexnet, "features.8", 131),
        (alexnet, "features.0", 11),
        (resnet18, "layer1.0.conv1", 19),
        (resnet18, "maxpool", 11),
    ],
)
def test_wrap_any_torchvision_network(build, address, field):
    with torch.device("meta"):
        module = build(weights=None)
    with torch.device("cpu"):
        model = wrap(module, inputs=IMAGENET)
    assert isinstance(model, Model)
    assert model.name == type(module).__name__
    assert model.target is None
    assert model.layers[address].receptive_field == (field, field)
    assert model.layers["@1"].kind == "Conv2d"
    with pytest.raises(LayerError):
        model.layers["alexnet.conv1"]


def test_wrapped_network_is_the_callers(model):
    module = Toy()
    wrapped = memviz.wrap(module, inputs=SPEC, name="mine", target="score", branches=["resnet"])
    assert wrapped.module is module
    assert wrapped.score_spec == ScoreSpec()
    assert (wrapped.name, wrapped.target, wrapped.branches) == ("mine", "score", ("resnet",))
    assert repr(wrapped) == "Model('mine', Toy, 16x16 px)"


@pytest.mark.parametrize("wrong", [lambda x: x, "resmem", nn.Conv2d, pd.DataFrame()])
def test_wrap_takes_modules_only(wrong):
    with pytest.raises(ModelError, match=r"takes a torch\.nn\.Module; given was (function|str|type|DataFrame)"):
        wrap(wrong, SPEC)


def test_names_of_units_belong_to_a_layer():
    names = ["dull", "memorable", "odd", "usual"]
    wrapped = wrap(Toy(), SPEC, named={"resnet.0": names})
    assert wrapped.named == {"resnet.0": tuple(names)}
    assert wrap(Toy(), SPEC).named == {}
    with pytest.raises(ModelError, match=r"3 names were given for 'resnet\.0', which has 4 units"):
        wrap(Toy(), SPEC, named={"resnet.0": names[:3]})
    with pytest.raises(LayerError, match=r"resnet\.9"):
        wrap(Toy(), SPEC, named={"resnet.9": names})
