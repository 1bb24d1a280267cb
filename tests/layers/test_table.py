import json

import pandas as pd
import pytest
import torch
from helpers import unchanged, undisturbed
from tiny import Branches, addresses, built, pictures, torchvision_network
from torch import nn
from torchvision.models import get_model
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformer, SwinTransformerBlockV2

from memviz.errors import LayerError, ModelError, StoreError
from memviz.layers import Layer, LayerTable, capture, layer_table, private_copy, truncate
from memviz.models import InputSpec, wrap
from memviz.models.resmem import FalseResMem, ResMem


def table_of(network, side=227, branches=()):
    """On the meta device: shapes and fields without numbers."""
    with torch.device("meta"):
        return layer_table(network.to("meta"), torch.zeros(1, 3, side, side), branches)


@pytest.fixture(scope="module")
def resmem_table():
    with torch.device("meta"):
        return table_of(ResMem(), branches=ResMem.branches)


@pytest.fixture
def branches():
    return layer_table(built("Branches"), pictures(1, 16), ("left", "right"))


@pytest.mark.parametrize(
    ("ordinal", "address"),
    [
        (1, "conv1"),
        (2, "layer1.0.conv1"),
        (11, "layer2.0.conv1"),
        (35, "layer3.0.conv1"),
        (139, "layer3.34.conv3"),
        (143, "layer4.0.conv1"),
        (151, "layer4.2.conv3"),
    ],
)
def test_resnets_convolutions_are_counted_as_the_paper_does(resmem_table, ordinal, address):
    layer = resmem_table[f"resnet@{ordinal}"]
    assert layer.address == f"resnet.{address}"
    assert resmem_table[layer.address] is layer


def test_shortcuts_have_no_ordinal_and_counting_ends_at_151(resmem_table):
    assert resmem_table["resnet.layer1.0.downsample.0"].ordinal is None
    with pytest.raises(LayerError, match=r"'resnet@152'.*resnet@1 to resnet@151"):
        resmem_table["resnet@152"]


@pytest.mark.parametrize(
    ("number", "channels", "size", "stride", "field"),
    [(1, 48, 55, 4, 11), (2, 256, 27, 8, 51), (3, 384, 13, 16, 99), (4, 384, 13, 16, 131), (5, 256, 13, 16, 163)],
)
def test_alexnet_branch(resmem_table, number, channels, size, stride, field):
    layer = resmem_table[f"alexnet@{number}"]
    assert (layer.address, layer.kind, layer.channels) == (f"alexnet.conv{number}", "Conv2d", channels)
    assert (layer.height, layer.width) == (size, size)
    assert layer.stride == (stride, stride)
    assert layer.receptive_field == (field, field)
    assert not layer.block


def test_channels_of_the_branches(resmem_table):
    convolutions = resmem_table.convolutions()
    channels = dict.fromkeys(ResMem.branches, 0)
    for layer in convolutions:
        channels[layer.address.partition(".")[0]] += layer.channels
    assert channels == {"alexnet": 1_328, "resnet": 75_712}


def test_residual_blocks_are_found(resmem_table):
    blocks = [layer for layer in resmem_table if layer.block]
    assert len(blocks) == 3 + 8 + 36 + 3
    assert {layer.kind for layer in blocks} == {"Bottleneck"}
    assert len(resmem_table.watched()) == len(blocks) + 5 + 151 + 4


def test_falseresmem_has_a_resnet50():
    with torch.device("meta"):
        table = table_of(FalseResMem(), branches=FalseResMem.branches)
    assert table["resnet@49"].address == "resnet.layer4.2.conv3"
    assert table["resnet.fc"].channels == 2048


def test_layers_come_in_the_order_in_which_they_finish(branches):
    order = [layer.address for layer in branches]
    assert order[:5] == ["left.0", "left.1", "left.2", "left", "right.0"]
    assert order[-2:] == ["right", "head"]
    assert set(order) == set(addresses(Branches())) - {""}
    assert order.index("right.1.bn2") < order.index("right.1.downsample") < order.index("right.1")


def test_rows_say_what_the_layers_give(branches):
    network = built("Branches")
    outputs = {}
    for address, part in network.named_modules():
        part.register_forward_hook(lambda part, inputs, out, address=address: outputs.update({address: out}))
    network(pictures(1, 16))
    for layer in branches:
        shape = tuple(outputs[layer.address].shape)
        assert (1, layer.channels, layer.height, layer.width) == (shape if len(shape) == 4 else (*shape, 1, 1))
        assert (layer.receptive_field is None) == (layer.address == "head")
    assert [layer.address for layer in branches if layer.block] == ["right.1", "right.2"]


def test_convolutions_count_within_their_branch(branches):
    assert {layer.ordinal: layer.address for layer in branches if layer.ordinal} == {
        "left@1": "left.0", "left@2": "left.2", "right@1": "right.0",
        "right@2": "right.1.conv1", "right@3": "right.1.conv2", "right@4": "right.2.conv1", "right@5": "right.2.conv2",
    }  # fmt: skip


def test_without_branches_the_count_has_no_name():
    table = layer_table(built("Branches"), pictures(1, 16))
    assert table["@3"].address == "right.0"


def test_a_layer_that_runs_again_counts_at_its_last_run():
    table = layer_table(built("Repeated"), pictures(1, 16))
    assert [layer.address for layer in table] == ["first", "relu", "last"]
    assert table["relu"].receptive_field == (7, 7)


def test_places_slices_and_membership(branches):
    assert branches[0].address == "left.0"
    assert branches[-1].address == "head"
    assert [layer.address for layer in branches[1:3]] == ["left.1", "left.2"]
    assert isinstance(branches[1:3], LayerTable)
    assert all(key in branches for key in ("left.0", "left@1", branches[3]))
    assert not any(key in branches for key in ("middle", "right@9", "", 5))


@pytest.mark.parametrize(("wrong", "close"), [("left.9", "left.0"), ("rigth.1.conv1", "right.1.conv1"), ("@1", "")])
def test_unknown_layers_are_named_with_close_ones(branches, wrong, close):
    with pytest.raises(LayerError, match=f"{wrong}.*{close}"):
        branches[wrong]


def test_frame_has_one_row_a_layer(branches):
    frame = branches.frame()
    assert isinstance(frame, pd.DataFrame)
    assert frame["address"].tolist() == [layer.address for layer in branches]
    assert {"kind", "channels", "stride", "receptive_field", "ordinal", "block"} <= set(frame)
    assert "right.1.conv1" in repr(branches)
    assert "right.1.conv1" in branches._repr_html_()
    assert repr(LayerTable([])) == "LayerTable([])"


def test_layers_survive_json(branches):
    again = [Layer.from_dict(json.loads(json.dumps(layer.to_dict()))) for layer in branches]
    assert again == list(branches)


WRONG = {
    "channels": ["8", 0, 2.5, None],
    "height": [-1],
    "stride": [[0, 1], [1], [1e12, 1], "ab"],
    "receptive_field": [[1.5, 2], [-1, 3], [10**400, 1], [[[]], 1]],
    "offset": [[float("nan"), 0], [1e12, 0]],
    "address": ["../../etc", 3, ""],
    "ordinal": ["139", "a/b@1", "resnet@0", "resnet@" + "9" * 5000],
    "block": ["yes"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_what_describes_no_layer_is_refused(branches, name, value):
    with pytest.raises(StoreError, match="describes no layer"):
        Layer.from_dict(branches[0].to_dict() | {name: value})


def test_a_layer_without_a_field_of_its_own_is_refused(branches):
    data = branches[0].to_dict()
    del data["kind"]
    for wrong in (data, {}, [], None):
        with pytest.raises(StoreError, match="describes no layer"):
            Layer.from_dict(wrong)


def test_field_is_in_pixels_from_the_pictures_edge():
    table = table_of(
        nn.Sequential(nn.Conv2d(3, 8, 11, stride=4), nn.MaxPool2d(3, 2), nn.Conv2d(8, 8, (3, 1), padding=2))
    )
    assert table["0"].field(0, 0) == (0, 0, 11, 11)
    assert table["0"].field(1, 2) == (8, 4, 19, 15)
    assert table["1"].field(2, 0) == (0, 16, 19, 35)
    assert table["2"].field(0, 0) == (-16, -16, 3, 19), "not clipped"


def test_leaves_the_network_as_it_was_also_after_an_exception():
    network = built("Branches").train()
    with unchanged(network), undisturbed():
        layer_table(network, pictures(1))
    with unchanged(network), undisturbed(), pytest.raises(RuntimeError):
        layer_table(network, torch.zeros(1, 5, 12, 12))


def test_own_convolution_classes_count_and_blocks_named_after_convolutions_do_not():
    class WeightStandardized(nn.Conv2d):
        pass

    class ConvBlock(nn.Sequential):
        pass

    table = layer_table(nn.Sequential(ConvBlock(WeightStandardized(3, 4, 3), nn.ReLU())), pictures(1))
    assert [(layer.address, layer.kind) for layer in table.convolutions()] == [("0.0", "Conv2d")]
    assert table["@1"].address == "0.0"


@pytest.mark.parametrize(
    ("name", "side", "convolutions"),
    [
        ("alexnet", 224, 5),
        ("vgg11", 64, 8),
        ("resnet18", 64, 20),
        ("densenet121", 64, 120),
        ("mobilenet_v3_large", 64, 62),
        ("efficientnet_b0", 64, 81),
        ("googlenet", 64, 57),
        ("inception_v3", 128, 94),
        ("convnext_tiny", 64, 22),
        ("vit_b_16", 32, 1),
        ("swin_t", 64, 1),
        ("fcn_resnet50", 64, 55),
    ],
)
def test_torchvision(name, side, convolutions):
    """As many convolutions as the papers' networks have, shortcuts included, auxiliary classifiers not."""
    options = {"weights_backbone": None} if name == "fcn_resnet50" else {}
    if name == "swin_t":
        table = layer_table(torchvision_network(name), torch.zeros(1, 3, side, side))
    else:
        options |= {"image_size": 32} if name == "vit_b_16" else {}
        options |= {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        with torch.device("meta"):
            table = table_of(get_model(name, weights=None, **options), side)
    assert len(table.convolutions()) == convolutions
    assert table[0].stride is not None


@pytest.mark.parametrize(
    ("name", "linear"), [("convnext_tiny", "features.1.0.block.3"), ("swin_t", "features.1.0.mlp.0")]
)
def test_what_is_not_laid_out_as_channels_of_maps_has_no_row(name, linear):
    network = torchvision_network(name)
    shapes = {}
    for address, part in network.named_modules():
        part.register_forward_hook(lambda part, inputs, out, address=address: shapes.update({address: out.shape}))
    table = layer_table(network, torch.zeros(1, 3, 64, 64))
    widths = {96, 192, 384, 768, 1000}
    assert {layer.channels for layer in table} <= widths, "the widths of the networks, never a height"
    maps = [address for address, shape in shapes.items() if len(shape) == 4 and shape[1] in widths and address]
    assert maps == [layer.address for layer in table if len(shapes[layer.address]) == 4]
    assert shapes[linear][-1] in {384, 96}, "features lie along the last axis"
    assert linear not in table


def test_what_does_not_depend_on_the_picture_has_no_row():
    """Swin-V2 computes biases (1, 15, 15, heads) from a table of positions."""
    with torch.random.fork_rng():
        network = SwinTransformer(
            [4, 4], 24, [1, 1], [3, 3], [8, 8], num_classes=2,
            block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2,
        ).eval()  # fmt: skip
    table = layer_table(network, pictures(1, 64))
    assert any("cpb_mlp" in address for address in addresses(network))
    assert not any("cpb_mlp" in layer.address for layer in table)
    assert {"features.0.0", "head"} <= {layer.address for layer in table}


@pytest.mark.parametrize("compile_", [torch.jit.script, lambda network: torch.jit.trace(network, pictures(1))])
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_compiled_modules_are_refused(compile_):
    compiled = compile_(built("Branches"))
    partly = nn.Sequential(nn.Identity(), compiled)
    for look in (
        private_copy,
        lambda network: layer_table(network, pictures(1)),
        lambda network: truncate(network, [""]),
        lambda network: wrap(network, InputSpec(size=(12, 12))),
        lambda network: capture(network, [""]).__enter__(),
    ):
        with pytest.raises(ModelError, match=r"network was compiled by torch\.jit.*Give the torch\.nn\.Module"):
            look(compiled)
        with pytest.raises(ModelError, match=r"module '1' of the network was compiled"):
            look(partly)


@pytest.mark.parametrize(("name", "side"), [("regnet_y_400mf", 64), ("maxvit_t", 224)])
def test_projections_of_shortcuts_have_no_ordinal(name, side):
    with torch.random.fork_rng():
        network = get_model(name, weights=None)
    table = table_of(network, side)
    projections = [layer for layer in table.convolutions() if ".proj." in layer.address]
    assert len(projections) == 4
    assert {layer.ordinal for layer in projections} == {None}
    ordinals = [layer.ordinal for layer in table.convolutions() if layer.ordinal]
    assert ordinals == [f"@{number + 1}" for number in range(len(table.convolutions()) - 4)]
    if name == "regnet_y_400mf":
        assert table["@2"].address == "trunk_output.block1.block1-0.f.a.0"


def test_a_projection_that_is_on_no_shortcut_counts():
    class Attention(nn.Module):
        """Its projection is on the main path of a block that adds."""

        def __init__(self):
            super().__init__()
            self.values, self.proj = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, maps):
            return maps + self.proj(self.values(maps))

    class Embedding(nn.Module):
        def __init__(self):
            super().__init__()
            self.proj, self.block = nn.Conv2d(3, 4, 4, 4), Attention()

        def forward(self, pictures):
            return self.block(self.proj(pictures))

    table = layer_table(Embedding(), pictures(1))
    assert table["block"].block
    assert [layer.ordinal for layer in table.convolutions()] == ["@1", "@2", "@3"]
