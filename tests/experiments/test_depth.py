"""The network that names the concepts of experiments/depth."""

import pytest
import torch

from memviz.images import open_image

pytest.importorskip("efficientnet_lite_pytorch", reason="uv sync --group depth installs it")
run = pytest.importorskip("experiments.depth.run")


@pytest.mark.parametrize(
    ("photograph", "names"), [("chelsea.png", {"tabby", "Egyptian cat", "tiger cat"}), ("coffee.png", {"espresso"})]
)
def test_it_knows_what_photographs_show(originals, photograph, names):
    model = run.load_concepts()
    with torch.no_grad():
        outputs = model(model.inputs.from_pil(open_image(originals[photograph]))[None])
    assert model.named["_fc"][outputs.argmax()] in names


def test_other_weights_are_refused(monkeypatch):
    monkeypatch.setattr(run, "SHA256", "0" * 64)
    with pytest.raises(SystemExit, match="is not the file that was published"):
        run.load_concepts()
