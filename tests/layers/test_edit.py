import pytest
import torch
from helpers import unchanged, undisturbed
from tiny import NETWORKS, addresses, built, pictures, truth
from torch import nn

from memviz.errors import LayerError
from memviz.layers import capture, replace_modules, replaced, truncate


class Constant(nn.Module):
    """What an ablation puts in the place of a layer: a value for each channel, whatever the input."""

    def __init__(self, values):
        super().__init__()
        self.register_buffer("values", values)

    def forward(self, maps):
        return self.values.expand(len(maps), *self.values.shape[1:])


class Doubled(nn.Module):
    def forward(self, maps):
        return 2 * maps


@pytest.mark.parametrize(
    ("name", "address"), [(name, address) for name in NETWORKS for address in addresses(built(name))[1:]]
)
@torch.no_grad()
def test_an_alteration_is_the_one_that_a_hook_would_make(name, address):
    network = built(name)
    expected = built(name)
    expected.get_submodule(address).register_forward_hook(lambda module, inputs, output: 2 * output)
    with unchanged(network), undisturbed():
        edited = replaced(network, {address: nn.Sequential(network.get_submodule(address), Doubled())})
        torch.testing.assert_close(edited(pictures()), expected(pictures()))
    assert type(edited) is type(network)


@torch.no_grad()
def test_ablation_of_a_branch():
    network = built("Branches")
    mean = truth(network, pictures(), ["right"])["right"].mean(0, keepdim=True)
    edited = replaced(network, {"right": Constant(mean)})
    with capture(edited, ["right", "left"]) as activations:
        edited(pictures())
    assert torch.equal(activations["right"], mean.expand(2, -1, -1, -1))
    assert torch.equal(activations["left"], truth(network, pictures(), ["left"])["left"])


def test_weights_share_their_memory_and_neither_network_nor_replacement_changes():
    network, replacement = built("Branches").train(), nn.Conv2d(4, 6, 3).train()
    with unchanged(network, replacement):
        edited = replaced(network, {"right.1": replacement})
    assert not any(module.training for module in edited.modules())
    assert not any(parameter.requires_grad for parameter in edited.parameters())
    assert edited.right[1].weight.data_ptr() == replacement.weight.data_ptr()
    assert edited.left[0].weight.data_ptr() == network.left[0].weight.data_ptr()


def test_a_module_at_several_addresses_is_replaced_at_each():
    shared = nn.Linear(2, 2)
    network = nn.Sequential(shared, nn.Sequential(shared, shared), nn.ModuleDict({"again": shared}))
    for address in ("0", "1.1", "2.again"):
        edited = replaced(network, {address: Doubled()})
        assert not any(isinstance(module, nn.Linear) for module in edited.modules())
        assert len({id(module) for module in (edited[0], *edited[1], edited[2]["again"])}) == 1


@torch.no_grad()
def test_a_traced_network():
    network = built("Branches")
    graph = truncate(network, ["right"])
    with unchanged(network, graph):
        edited = replaced(graph, {"right.1.bn1": nn.Identity()})
    expected = replaced(network, {"right.1.bn1": nn.Identity()})
    torch.testing.assert_close(edited(pictures())["right"], expected.right(pictures()))
    assert not torch.allclose(edited(pictures())["right"], graph(pictures())["right"])


@pytest.mark.parametrize(
    ("replacements", "message"),
    [
        ({"rigth": Doubled()}, "no layer 'rigth'.*Close names: right"),
        ({"": Doubled()}, "network itself"),
        ({"right": Doubled(), "right.1.bn1": Doubled()}, "'right.1.bn1' lies inside 'right'"),
    ],
)
def test_refuses_what_cannot_be_replaced(replacements, message):
    network = built("Branches")
    with unchanged(network), pytest.raises(LayerError, match=message):
        replaced(network, replacements)


def test_refuses_two_replacements_of_one_module():
    relu = nn.ReLU()
    network = nn.Sequential(relu, relu)
    with pytest.raises(LayerError, match="several addresses"):
        replaced(network, {"0": Doubled(), "1": nn.Identity()})
    both = Doubled()
    assert [type(module) for module in replaced(network, {"0": both, "1": both})] == [Doubled, Doubled]


def test_in_place_the_replacement_itself_is_put_in():
    network, replacement = built("Branches"), Doubled()
    replace_modules(network, {"right.1": replacement})
    assert network.right[1] is replacement
