"""The network that names the concepts of experiments/depth."""

import pytest
import torch

from experiments.depth import run
from memviz.images import open_image


@pytest.mark.parametrize(
    ("photograph", "names"), [("chelsea.png", {"tabby", "Egyptian cat", "tiger cat"}), ("coffee.png", {"espresso"})]
)
def test_it_knows_what_photographs_show(originals, photograph, names):
    model = run.load_concepts()
    with torch.no_grad():
        outputs = model(model.inputs.from_pil(open_image(originals[photograph]))[None])
    assert model.named["_fc"][outputs.argmax()] in names
