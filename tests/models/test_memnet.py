import pytest
import torch
from torch import nn

from memviz.models.memnet import MemNet


@pytest.fixture(scope="module")
def memnet():
    with torch.device("meta"):
        return MemNet()


def test_has_as_many_parameters_as_published(memnet):
    assert sum(parameter.numel() for parameter in memnet.parameters()) == 56_258_881


def test_one_number_a_picture(memnet):
    assert memnet(torch.zeros(3, 3, 227, 227, device="meta")).shape == (3, 1)


def test_output_is_linear(memnet):
    assert isinstance(list(memnet.modules())[-1], nn.Linear)


def test_parts_carry_the_papers_names(memnet):
    assert list(dict(memnet.named_children())) == ["alexnet", "head"]
    assert memnet.branches == ("alexnet",)
