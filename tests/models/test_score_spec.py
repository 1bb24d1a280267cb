import json
import math

import pytest
import torch

from memviz.errors import ModelError
from memviz.models.score_spec import IDENTITY, ScoreSpec

MEMNET = ScoreSpec(mean=0.7626, scale=2.0, shift=0.65, clip=(0.0, 1.0))


def test_identity_changes_nothing():
    outputs = torch.randn(5, 1, generator=torch.Generator().manual_seed(0)) * 100
    assert torch.equal(IDENTITY(outputs), outputs[:, 0])


def test_memnets_by_hand():
    outputs = torch.tensor([[0.7626, 0.7626], [0.70, 0.80], [0.0, 0.1], [2.0, 1.0]])
    assert MEMNET(outputs).tolist() == pytest.approx([0.65, 0.65 + 2 * (0.75 - 0.7626), 0, 1])


@pytest.mark.parametrize("spec", [IDENTITY, MEMNET], ids=str)
def test_json_round_trip(spec):
    again = ScoreSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec
    assert hash(again) == hash(spec)


@pytest.mark.parametrize(
    "wrong",
    [
        {"scale": 0},
        {"clip": [1.0]},
        {"clip": (1.0, 0.0)},
        {"gain": 2.0},
        {"mean": "a"},
        {"scale": []},
        {"shift": math.nan},
        {"clip": [0.0, math.inf]},
        {"clip": 3},
        [],
        None,
        {"mean": 10**400},
    ],
)
def test_what_describes_no_score_is_refused(wrong):
    with pytest.raises(ModelError):
        ScoreSpec.from_dict(wrong)


def test_unclipped_scores_have_a_gradient_beyond_the_limits():
    outputs = torch.tensor([[0.0], [2.0]], requires_grad=True)
    scores = MEMNET.unclipped(outputs)
    assert scores.flatten().tolist() == pytest.approx([0.65 - 2 * 0.7626, 0.65 + 2 * (2 - 0.7626)])
    scores.sum().backward()
    assert outputs.grad.flatten().tolist() == [2.0, 2.0]


@pytest.mark.parametrize("spec", [IDENTITY, MEMNET], ids=str)
def test_inverse(spec):
    assert spec.unclipped(torch.tensor(spec.inverse(0.6))).item() == pytest.approx(0.6)


def test_logit_is_that_of_torch_and_finite_with_a_gradient_at_the_ends():
    outputs = torch.tensor([0.01, 0.3, 0.99, 0.0, 1.0], requires_grad=True)
    found = ScoreSpec.logit(outputs)
    torch.testing.assert_close(found[:3], outputs[:3].logit(), rtol=1e-4, atol=1e-4)
    found.sum().backward()
    assert outputs.grad.isfinite().all()
    assert (outputs.grad > 1).all()
