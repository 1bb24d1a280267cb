import numpy as np
import pytest
import torch

from memviz.errors import LayerError
from memviz.layers import LayerTable
from memviz.layers.table import Layer
from memviz.layers.unit import Unit, check_address, parse_channels, ratio, succeeds, units_of


def layer(address="alexnet.conv4", channels=12, ordinal="alexnet@4"):
    return Layer(address, "Conv2d", channels, 13, 13, (16, 16), (131, 131), (65, 65), ordinal, False)


@pytest.mark.parametrize("text", ["alexnet.conv4:5", "alexnet@4:5"])
def test_a_unit_is_parsed_by_address_or_ordinal_and_written_by_address(text):
    unit = Unit.parse(text, LayerTable([layer()]))
    assert unit == Unit("alexnet.conv4", 5)
    assert str(unit) == "alexnet.conv4:5"
    assert unit.stem == "alexnet.conv4-0005"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("alexnet.conv4", "write a unit as"),
        ("alexnet.conv4:", "write a unit as"),
        ("alexnet.conv4:-1", "write a unit as"),
        ("alexnet.conv4:٣", "write a unit as"),
        ("alexnet.conv4:" + "9" * 10_000, "write a unit as"),
        ("alexnet.conv4:12", "units 0 to 11; given was 12"),
        ("alexnet.conv5:1", "no layer 'alexnet.conv5'"),
    ],
)
def test_what_is_no_unit_is_refused_with_what_is_valid(text, said):
    with pytest.raises(LayerError, match=said):
        Unit.parse(text, LayerTable([layer()]))


@pytest.mark.parametrize("address", ["../conv", "a/b", "a\\b", "", "..", ".", "a\0b", "a:b"])
def test_addresses_hold_no_path(address):
    with pytest.raises(LayerError):
        check_address(address)
    with pytest.raises(LayerError):
        Unit(address, 0)


def test_units_of_a_layer():
    whole = units_of(layer(channels=3))
    assert [unit.channel for unit in whole] == [0, 1, 2]
    assert [unit.channel for unit in units_of(layer(), np.array([3, 1, 3]))] == [3, 1]
    assert [unit.channel for unit in units_of(layer(), torch.tensor([2, 0]))] == [2, 0]
    assert units_of(layer(), np.int64(4)) == [Unit("alexnet.conv4", 4)]


@pytest.mark.parametrize("channels", [12, -1, [0, 12], [], "13", 1.5, [0.0], None.__class__])
def test_wrong_channels(channels):
    with pytest.raises((LayerError, TypeError)):
        units_of(layer(), channels)


def test_text_is_not_taken_for_a_list_of_digits():
    with pytest.raises(LayerError, match="is text"):
        units_of(layer(), "13")


def test_lists_of_channels():
    assert parse_channels("3") == [3]
    assert parse_channels(" 0-2, 7 ,5-5") == [0, 1, 2, 7, 5]


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "3-1", "1,,2", "1-2-3", "9" * 100])
def test_wrong_lists(text):
    with pytest.raises(LayerError, match="write channels as"):
        parse_channels(text)


@pytest.mark.parametrize(
    ("peak", "best", "success", "multiple"),
    [
        (3.0, 2.0, True, 1.5),
        (2.0, 2.0, False, 1.0),
        (1.0, 2.0, False, 0.5),
        (1.0, -2.0, True, None),
        (-1.0, -2.0, False, None),  # it inhibits less than any photograph, and excites nothing
        (0.0, -2.0, False, None),
        (None, 2.0, False, None),
        (2.0, None, False, None),
    ],
)
def test_one_definition_of_success(peak, best, success, multiple):
    assert succeeds(peak, best) is success
    assert ratio(peak, best) == multiple


def test_interior_is_where_the_field_lies_inside():
    for size in (7, 20, 31):
        padded = torch.nn.Conv2d(1, 1, 5, stride=2, padding=2, bias=False)
        torch.nn.init.ones_(padded.weight)
        seen = padded(torch.ones(1, 1, size, size))[0, 0]
        side = seen.shape[0]
        rows, columns = Layer("c", "Conv2d", 1, side, side, (2, 2), (5, 5), (0, 0), None, False).interior((size, size))
        whole = seen == 25  # nothing of the padding's zeros is in the sum
        expected = torch.zeros_like(whole)
        expected[rows, columns] = True
        assert torch.equal(whole, expected)


def test_interior_of_what_sees_everything_is_all():
    assert layer().interior((100, 100)) == (slice(0, 13), slice(0, 13))
    vector = Layer("fc", "Linear", 10, 1, 1, None, None, None, None, False)
    assert vector.interior((227, 227)) == (slice(0, 1), slice(0, 1))
